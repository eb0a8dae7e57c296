"""What a deployment target makes of a quantised model, said before calibration instead of on the device."""

from __future__ import annotations

from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import UsageError

# First TensorRT whose DLA takes INT8 from Q/DQ pairs rather than from a calibration cache.
DLA_WITH_PAIRS = (11, 4)


def check_target(target: Target, opset: int, *, dla: bool) -> list[str]:
    """Holds a quantisation against the target.

    Args:
        target: Where the model is to run.
        opset: Of the model.
        dla: Whether pairs are placed for a deep learning accelerator.

    Returns:
        What the user should know.

    Raises:
        UsageError: The target cannot run the result.
    """
    if target.has_int8 is False:
        raise UsageError(
            f"{target.title} has no INT8, so a quantised model is of no use there",
            "build the FP32 model with --precision fp16",
        )
    if opset > target.largest_opset:
        raise UsageError(
            f"the model has opset {opset}; {target.reader} of {target.name} reads up to {target.largest_opset}",
            f"export it with --target {target.name}",
        )
    module = target.module
    if dla and module is not None and not module.dla_cores:
        raise UsageError(f"{target.title} has no DLA", "leave --dla out")
    if module is None or not module.dla_cores:
        return []
    if not dla:
        return [f"{target.title} has {module.dla_cores} DLA cores; --dla places pairs as they want them"]
    if target.tensorrt[0] < DLA_WITH_PAIRS:
        return [f"the DLA of {target.reader} takes INT8 from a calibration cache alone: write one with --cache"]
    return []
