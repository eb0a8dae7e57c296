"""Where to clip a tensor: one file per method, all on the same histogram."""
