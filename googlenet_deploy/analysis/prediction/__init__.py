"""Latency, energy and memory of TensorRT engines on a module, predicted from published measurements."""
