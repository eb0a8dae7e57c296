"""Data sets, decoding, augmentation and batches."""
