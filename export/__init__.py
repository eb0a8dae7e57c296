"""PyTorch to ONNX: export, graph passes, simplification and verification."""
