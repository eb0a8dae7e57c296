"""ONNX files without the onnx package: read, edited, and what they say about themselves."""
