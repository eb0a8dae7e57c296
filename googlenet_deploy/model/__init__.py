"""PyTorch: the two GoogLeNets, where weights come from, and the paper's Table 1."""
