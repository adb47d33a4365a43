"""Calibration inputs: given, mirrored or synthesised."""
