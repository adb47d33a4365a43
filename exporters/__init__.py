"""Graph to file or engine, one backend a file. The library behind each is imported only when it is used."""

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "inductor")
"""The backends, by the names of their modules. Here, as the command line's help does not wait for anything to load."""
