"""Equivalent forms of a model that a CPU runs faster; made in memory, the file is not changed."""
