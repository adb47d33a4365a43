"""From what components are worth to a plan."""
