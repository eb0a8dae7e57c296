"""Finding, decoding and batching images."""
