"""Which layers stay in floating point so that an accuracy budget holds."""
