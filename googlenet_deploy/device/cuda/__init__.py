"""CUDA from Python, with cuda-bindings or PyCUDA."""
