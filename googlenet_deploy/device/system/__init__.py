"""The machine: its module, GPU, clocks, heat, and what it can run."""
