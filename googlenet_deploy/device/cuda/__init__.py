"""CUDA from Python, by cuda-bindings or PyCUDA."""
