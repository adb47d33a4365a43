"""The graphs of the small models, by what makes them hard. The notation is that of `tests.oracles.small`."""
