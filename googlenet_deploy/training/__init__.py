"""Training: data, loop and schedule."""
