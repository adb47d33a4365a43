"""The one statistic, and where it is taken."""
