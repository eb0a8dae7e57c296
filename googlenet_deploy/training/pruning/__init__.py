"""Structured channel pruning: a smaller dense network from a trained one, in steps with training between them."""
