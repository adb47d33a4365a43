"""What runs the project from outside, by purpose; each is run by its name, as in ``python -m tools.peers.compare``."""
