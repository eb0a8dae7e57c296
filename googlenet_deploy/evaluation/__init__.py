"""Accuracy, agreement and per-layer error of a model that runs."""
