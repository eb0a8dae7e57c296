"""Names of the threshold methods and of TensorRT's calibrators; imports nothing, so that ``--help`` stays quick."""

from __future__ import annotations

METHODS = ("max", "percentile", "entropy", "mse")
AUTO = "auto"  # the method that leaves the smallest error on images that it was not fitted to
DEFAULT_PERCENTILE = 99.999  # share of absolute values that the percentile method keeps
ALGORITHMS = ("EntropyCalibration2", "MinMaxCalibration")  # TensorRT's calibrators, as the head of a cache names them
