"""Read and change ONNX graphs on a workstation: files, views, passes, sessions."""
