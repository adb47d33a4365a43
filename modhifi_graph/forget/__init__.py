"""Making a classifier forget a class in closed form: what is zeroed, negated or refitted, and on which statistics."""
