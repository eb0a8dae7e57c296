"""TensorRT's Python API in all its versions: which names it has, what it logs, how it runs an engine."""
