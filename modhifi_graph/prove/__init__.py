"""Proof that a slim model is what was meant."""
