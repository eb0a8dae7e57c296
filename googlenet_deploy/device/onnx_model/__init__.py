"""ONNX files without the onnx package: reading, checking, editing and metadata."""
