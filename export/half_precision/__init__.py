"""FP16 and BF16 weights and types for strongly typed builds."""
