"""What makes an INT8 model better than plain rounding does, each step in a file of its own."""
