"""Models in FP16 or BF16: which layers may be, the conversion, and the proof."""
