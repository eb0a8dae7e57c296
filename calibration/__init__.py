"""INT8: batches, observers, thresholds, tables, Q/DQ placement and TensorRT caches."""
