"""Module to module: the same passes over what ``torch.export`` makes of a module."""

from modhifi_graph.passes.fx.modhifi import ModHiFi

__all__ = ["ModHiFi"]
