"""Bundles for Jetson, Triton and DeepStream."""
