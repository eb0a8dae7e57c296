"""Threshold methods and TensorRT's calibrators by name; imports nothing heavy, so that ``--help`` stays quick."""

from __future__ import annotations

from typing import NamedTuple


class MethodEntry(NamedTuple):
    """One threshold method.

    Attributes:
        function: Where it is defined, see `device.registry`: takes a `Histogram`, returns the clipping threshold (0 for
            a tensor that was always zero).
        settings: Names of the further settings that it takes: "percentile".
    """

    function: str
    settings: tuple[str, ...] = ()


# The one registry of threshold methods.
METHODS: dict[str, MethodEntry] = {
    "max": MethodEntry("googlenet_deploy.calibration.thresholds.max:max_threshold"),
    "percentile": MethodEntry(
        "googlenet_deploy.calibration.thresholds.percentile:percentile_threshold", ("percentile",)
    ),
    "entropy": MethodEntry("googlenet_deploy.calibration.thresholds.entropy:entropy_threshold"),
    "mse": MethodEntry("googlenet_deploy.calibration.thresholds.mse:mse_threshold"),
}
AUTO = "auto"  # the method that leaves the smallest error on images that it was not fitted to
DEFAULT_PERCENTILE = 99.999  # share of absolute values that the percentile method keeps
ALGORITHMS = ("EntropyCalibration2", "MinMaxCalibration")  # TensorRT's calibrators, as the head of a cache names them
