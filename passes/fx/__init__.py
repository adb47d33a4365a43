"""Module to module: the same passes over what ``torch.export`` makes of a module."""
