"""Where graphs come from: each dialect lifts a model into the neutral graph and lowers a plan back onto the model."""
