"""Refinements of a quantized model: one file per method, listed in `registry`."""
