"""PyTorch: the GoogLeNets, their sources of weights, and the paper's Table 1."""
