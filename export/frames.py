"""A finished model that takes camera frames, verified against the CPU's resize and the model it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.images.nv12 import from_nv12
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.errors import UsageError, VerificationError, requires
from googlenet_deploy.export.half_precision.convert import QUANTIZED_TOLERANCE, is_quantized
from googlenet_deploy.export.half_precision.emulate import stand_in
from googlenet_deploy.export.passes.frame_input import FrameInput
from googlenet_deploy.export.samples import Samples, seeded_samples
from googlenet_deploy.export.verify import (
    Comparison,
    Floats,
    Outputs,
    first_classes,
    largest_difference,
    run,
    tolerance_for,
)
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.pass_manager import PassManager, PassRecord

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto, TensorProto, helper
    from PIL import Image

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing

# Pixels in memory at once for the verification; in float32 they take twelve times as many bytes.
_PIXELS_HELD = 2**24
MOST_FRAMES = 8
# Seeded pictures are smooth; the effect of a resize is visible on detail.
_NOISE = 24
# How far a pixel may be from the CPU's, in steps of 1/255 of the range, and how many may be further off: if a filter
# overshoots or colours are clipped, the CPU clips more often than the graph.
STEP, SHARE_BEYOND, MEAN_STEPS = 1.0, 1e-3, 0.3
# Some pixels in ten differ by one step; logits of the published weights by less than a hundredth of the largest.
TOLERANCE = 2**-4


@dataclass(frozen=True)
class PixelDifference:
    """How far the graph's pixels are from the CPU's, in steps of 1/255 of the range.

    Attributes:
        mean: Mean over all values of all frames.
        largest: Largest difference of a single value.
        beyond: Share of the values that are more than one step off.
    """

    mean: float
    largest: float
    beyond: float

    @property
    def holds(self) -> bool:
        """Whether all but a thousandth of them are at most one step apart, and they are close on average."""
        return self.beyond <= SHARE_BEYOND and self.mean <= MEAN_STEPS

    def sentence(self) -> str:
        """One human-readable line."""
        beyond = f", {self.beyond:.2%} by more than one" if self.beyond else ""
        return f"pixels differ from the CPU's by {self.mean:.2f} steps on average, {self.largest:.0f} at most{beyond}"


@dataclass(frozen=True)
class FrameResult:
    """A model that takes frames, and how it compares.

    Attributes:
        model: The model, without new metadata.
        specification: The frames.
        comparison: Its outputs compared with those of the model it was made from, on images that the CPU prepared.
        pixels: The resize in the graph compared with the CPU's.
        half: Whether the resize is in FP16.
        records: What the pass did.
        notes: What the user should know.
    """

    model: ModelProto
    specification: Preprocessing
    comparison: Comparison
    pixels: PixelDifference
    half: bool
    records: tuple[PassRecord, ...]
    notes: tuple[str, ...]

    def entries(self) -> dict[str, str]:
        """Entries for the model's metadata; rounded, so that a repeat yields the same bytes."""
        values = {
            "resize": "fp16" if self.half else "fp32",
            "mean_steps": float(f"{self.pixels.mean:.1g}"),
            "largest_steps": round(self.pixels.largest),
            "images": self.comparison.count,
            "origin": self.comparison.origin,
        }
        return {"frame_input": json.dumps(values, separators=(",", ":"), sort_keys=True)}


def frame_specification(spec: Preprocessing | None, frame: tuple[int, int], frame_format: str) -> Preprocessing:
    """The frames that a model with this preprocessing would take.

    Raises:
        UsageError: It does not state how its images are prepared, takes frames already, or such frames do not exist.
    """
    if spec is None:
        raise UsageError("--frame-input needs a model that carries its preprocessing, which this one does not")
    if spec.frame is not None:
        raise UsageError(f"--frame-input: the model accepts {spec.describe_frame()} already")
    if spec.channels == "L" and frame_format != "rgb":
        raise UsageError(
            f"--frame-format {frame_format}: the model sees luminance only", "leave it out: frames are grey"
        )
    return spec.with_frame_input(frame, frame_format)


def frame_count(specification: Preprocessing) -> int:
    """Number of frames to verify with; fewer if they are large."""
    height, width = specification.pixel_size
    return max(2, min(MOST_FRAMES, _PIXELS_HELD // (height * width)))


def seeded_frames(specification: Preprocessing) -> Samples:
    """Random frames with structure of every size, the same on every machine."""
    smooth = seeded_samples(specification, frame_count(specification))
    generator = np.random.Generator(np.random.PCG64(1920))
    noise = generator.integers(-_NOISE, _NOISE + 1, smooth.pixels.shape, dtype=np.int16)
    pixels = np.clip(smooth.pixels + noise, 0, 255).astype(np.uint8)
    return Samples.of_pixels(pixels, specification, smooth.origin.replace("pictures", "frames"))


def take_frames(model: ModelProto, spec: Preprocessing, frames: Samples, specification: Preprocessing) -> FrameResult:
    """Puts the resize of frames in front of a finished model and verifies it.

    Args:
        model: Finished, with the types of its tensors stated: float32, FP16, BF16 or with Q/DQ pairs.
        spec: How its images are prepared.
        frames: The frames to verify with, prepared as `specification` states.
        specification: The frames.

    Raises:
        UsageError: The crop does not fit in such frames.
        VerificationError: The model's input cannot be preceded by a resize of frames, or the result differs.
    """
    prepared = np.stack([_by_cpu(frame, spec, specification) for frame in frames.prepared])
    notes: list[str] = []
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    for in_half in (True, False) if half else (False,):
        change = FrameInput(spec, specification, half=in_half)
        manager = PassManager()
        changed = manager.run(model, [change])
        outputs, pixels = _run_frames(changed, change.pixels, frames)
        difference = _difference(pixels, prepared, spec)
        if difference.holds:
            break
        if in_half:
            notes.append(f"the resize of frames stays in FP32: in FP16 {difference.sentence()}")
    else:
        raise VerificationError(f"the resize in the graph is not the CPU's: {difference.sentence()}")
    relative = QUANTIZED_TOLERANCE if is_quantized(model) else TOLERANCE
    wanted = run(stand_in(model), replace(frames, prepared=prepared))
    comparison = compare_outputs(outputs, wanted, frames.origin, relative)
    if not comparison.holds:
        raise VerificationError(f"the model for frames differs from {comparison.against}: {comparison.sentence()}")
    if specification.pixel_size[0] > specification.pixel_size[1]:
        notes.append(f"the frames are higher than wide: {specification.describe_frame()}")
    notes.append(difference.sentence())
    return FrameResult(changed, specification, comparison, difference, in_half, tuple(manager.records), tuple(notes))


def _by_cpu(
    frame: npt.NDArray[np.generic], spec: Preprocessing, specification: Preprocessing
) -> npt.NDArray[np.generic]:
    """The CPU's result for a frame's pixels; for NV12, for the colours that it represents."""
    pixels = np.asarray(frame, np.uint8)
    if specification.frame_yuv is not None:
        pixels = from_nv12(pixels, specification.frame_yuv)
    elif specification.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))
    return preprocess(image, spec)


def _run_frames(model: ModelProto, pixels: str, frames: Samples) -> tuple[Outputs, Floats]:
    """The outputs, and the resized pixels in the network's order; 16-bit types round as on the device."""
    watched = copy_model(stand_in(model))
    watched.graph.output.append(helper.make_tensor_value_info(pixels, TensorProto.FLOAT, None))
    outputs = run(watched, frames)
    return outputs, outputs.pop(pixels).astype(np.float64)


def _difference(pixels: Floats, prepared: npt.NDArray[np.generic], spec: Preprocessing) -> PixelDifference:
    mean, std = (np.asarray(values).reshape(-1, 1, 1) for values in (spec.mean, spec.std))
    wanted = (prepared.astype(np.float64) * std + mean) / spec.scale
    steps = np.abs(pixels - np.rint(wanted))
    return PixelDifference(float(steps.mean()), float(steps.max()), float((steps > STEP + 1e-3).mean()))


def compare_outputs(
    outputs: Mapping[str, npt.NDArray[np.generic]],
    wanted: Mapping[str, npt.NDArray[np.generic]],
    origin: str,
    relative: float,
) -> Comparison:
    """Compares two models' outputs; for a TopK, the scores and the first class are compared."""
    floats = [name for name, values in wanted.items() if values.dtype.kind == "f"]
    largest = max(largest_difference(*(part[name].astype(np.float64) for part in (outputs, wanted))) for name in floats)
    tolerance = min(tolerance_for(wanted[name].astype(np.float64), relative) for name in floats)
    mine, theirs = first_classes(outputs), first_classes(wanted)
    count = len(wanted[floats[0]])
    same = np.ones(count, np.bool_) if mine is None or theirs is None else mine == theirs
    ranked = -np.sort(-wanted[floats[0]].reshape(count, -1).astype(np.float64), axis=1)
    ties = ~same & (ranked[:, 0] - ranked[:, min(1, ranked.shape[1] - 1)] <= 2 * min(largest, tolerance))
    against = "the model it was made from, on images resized by the CPU"
    return Comparison(against, largest, tolerance, int(same.sum()), count, int(ties.sum()), origin)
