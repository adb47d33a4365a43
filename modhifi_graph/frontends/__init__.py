"""How models come in and go out: each front end opens one kind, and gives the same kind back."""
