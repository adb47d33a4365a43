"""Calibration inputs where there are none: pictures, a language model's own text, and plain numbers."""
