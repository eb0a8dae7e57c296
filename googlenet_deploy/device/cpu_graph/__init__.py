"""Forms of a model that a CPU runs faster and that compute the same; made in memory, the file stays as it is."""
