"""Where images come from, how they are decoded, and how batches of them are made ready."""
