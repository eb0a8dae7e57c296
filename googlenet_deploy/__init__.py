"""Takes a GoogLeNet classifier from PyTorch to an NVIDIA Jetson, and proves every step."""

__version__ = "0.1.0"
