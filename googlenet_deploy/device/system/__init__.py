"""The machine: its module, GPU, clocks, temperatures, and what it can run."""
