"""Graph to graph, one compiler pass a file. Every pass is an ``onnx_ir.passes`` pass with pre- and postconditions."""
