"""modhifi-graph: a structured-pruning compiler pass over ONNX."""
