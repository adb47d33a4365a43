"""How much of every layer's output each component reconstructs, and how what is left makes up for what goes."""
