"""The whole job in the shape that other frameworks ask for."""
