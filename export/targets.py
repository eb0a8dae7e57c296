"""The opset and IR version that an export writes: what its target supports, and what this toolkit supports.

What a target supports is defined in `googlenet_deploy.device.targets.target`. The IR version of an opset is the one of
the ONNX release that introduced it (``docs/Versioning.md`` of onnx).
"""

from __future__ import annotations

from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import UsageError

# Opset 17 is the default: every TensorRT from 8.4 on reads it, thus every JetPack from 5 on, and so does ONNX Runtime
# from 1.12 on. None of our operators gained anything in a later one. Only JetPack 4.6 needs a lower one, and a user who
# names it as the target also learns about its other limits.
DEFAULT_OPSET = 17
# Per-axis QuantizeLinear, Split's and Softmax's present form all date from opset 13; there's no older target.
SMALLEST_OPSET = 13

# Smallest IR version that holds each opset.
_IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}
LARGEST_OPSET = max(_IR_VERSIONS)


def choose_opset(target: Target | None, requested: int | None) -> int:
    """The opset to write: the requested one, else the default or the target's largest, whichever is smaller.

    Raises:
        UsageError: The request is beyond what the target supports, or what this toolkit writes.
    """
    limit = target.largest_opset if target else LARGEST_OPSET
    if requested is None:
        return min(DEFAULT_OPSET, limit)
    if not SMALLEST_OPSET <= requested <= LARGEST_OPSET:
        raise UsageError(f"opset {requested} is out of range", f"choose --opset {SMALLEST_OPSET} to {LARGEST_OPSET}")
    if target is not None and requested > limit:
        raise UsageError(
            f"opset {requested} is too new for {target.name}: its {target.reader} reads up to opset {limit}",
            f"leave --opset out, or pass --opset {limit} or less",
        )
    return requested


def ir_version_for(opset: int) -> int:
    """The IR version to write with an opset: the smallest that holds it.

    Raises:
        UsageError: This toolkit does not write the opset.
    """
    try:
        return _IR_VERSIONS[opset]
    except KeyError:
        raise UsageError(f"opset {opset} is out of range") from None
