"""TensorRT's Python API in all its versions: names, log messages and running engines."""
