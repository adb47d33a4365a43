"""Figures, page, terminal and plots."""
