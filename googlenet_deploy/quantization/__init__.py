"""INT8: placement of Q/DQ, weights, refinements, lint, repair and mixed precision."""
