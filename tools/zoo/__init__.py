"""The architectures that the oracles run on, for tests and tools alike: real topologies, seeded random weights.

>>> from tools import zoo
>>> zoo.export("resnet18", "torchscript").graph.output[0].name
'output'
"""

from tools.zoo.architectures import EXPORTERS, ZOO, Unsupported, cases, samples
from tools.zoo.exports import export, export_path, module
from tools.zoo.libraries import import_torch

__all__ = ["EXPORTERS", "ZOO", "Unsupported", "cases", "export", "export_path", "import_torch", "module", "samples"]
