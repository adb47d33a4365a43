"""Measured latency: what each piece of a model takes on the engine that will run it, at the widths under consideration."""
