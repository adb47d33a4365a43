"""The embedded samples: how they are trained, fine-tuned once pruned, and shown in the README."""
