"""What runs the project from outside, by purpose. Every command is ``python -m tools.PACKAGE.NAME``."""
