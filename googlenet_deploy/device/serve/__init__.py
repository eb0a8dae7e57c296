"""Serving a classifier over HTTP, and watching it: the standard library alone, beside what runs the model."""
