"""What TensorRT engines take on a module: latency, energy and memory, predicted from published measurements."""
