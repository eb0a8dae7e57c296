"""What a network costs and what a model holds: multiply-adds, roofline, inspection, sparsity."""
