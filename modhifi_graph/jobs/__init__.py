"""The jobs, each its stages in order."""
