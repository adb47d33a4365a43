"""Opening what people hand in."""
