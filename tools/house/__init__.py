"""The house: its rooms, who imports whom, and the picture of both."""
