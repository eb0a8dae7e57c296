"""Refinements of a quantised model: one file per method, listed in `registry`."""
