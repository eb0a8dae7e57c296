"""Choosing precision, batch, streams, threads, CUDA graph and power mode by measurement."""
