"""Options for the written model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.preprocessing_options import parse_frame
from googlenet_deploy.device.specification import FRAME_FORMATS
from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.targets import LARGEST_OPSET, SMALLEST_OPSET, choose_opset

if TYPE_CHECKING:
    from googlenet_deploy.export.half_precision.types import HalfType

FORMAT, GRAPH = "format", "graph"  # headings of --help


@dataclass(frozen=True)
class HalfOptions:
    """The requested 16-bit types.

    Attributes:
        kind: The 16-bit type.
        keep: Layers or operators to keep in FP32, besides those that must be.
    """

    kind: HalfType
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportOptions:
    """Options for the written model.

    Attributes:
        target: Where it is to run; determines the largest opset.
        opset: ONNX opset; None chooses by the target; without a target, an ONNX source keeps its opset.
        batch: Fixed batch size; None keeps the batch symbolic, or as it is in an ONNX source.
        uint8_input: Take raw NHWC RGB pixels and normalise inside.
        frame_input: Take camera frames of this (height, width) and resize, crop and normalise inside; None expects
            prepared images.
        frame_format: Format of the frames, one of `FRAME_FORMATS`.
        softmax: Return probabilities instead of logits.
        top_k: Return only the k best classes; None returns all.
        average_pool: AveragePool with a static window instead of GlobalAveragePool.
        convolutional_classifier: 1x1 convolution and Flatten instead of Flatten and Gemm.
        simplify: Run onnxsim.
        half: Write the model in FP16 or BF16; None keeps its types.

    Raises:
        UsageError: A value is out of range, or the target or the opset does not support what is requested.
    """

    target: Target | None = None
    opset: int | None = option(
        None, f"ONNX opset, {SMALLEST_OPSET} to {LARGEST_OPSET}", group=FORMAT, metavar="N",
        shown_default="17, or what the target reads",
    )  # fmt: skip
    batch: int | None = option(None, "fixed batch size", group=FORMAT, metavar="N", least=1, shown_default="dynamic")
    uint8_input: bool = option(False, "accept NHWC uint8 RGB pixels and normalise inside the graph", group=GRAPH)
    frame_input: tuple[int, int] | None = option(
        None, "accept a camera's frames of this height x width, and resize, crop and normalise inside the graph",
        group=GRAPH, metavar="HxW", parse=parse_frame,
    )  # fmt: skip
    frame_format: str = option(
        "rgb", "of the frames: channels in this order, or NV12 in video range by BT.601 or BT.709", group=GRAPH,
        choices=FRAME_FORMATS,
    )  # fmt: skip
    softmax: bool = option(False, "return probabilities instead of logits", group=GRAPH)
    top_k: int | None = option(
        None, "return only the K best classes, as top_k_values and top_k_indices", group=GRAPH, metavar="K", least=1
    )
    average_pool: bool = option(
        False, "AveragePool with a static window instead of GlobalAveragePool, as a Jetson's DLA needs it", group=GRAPH
    )
    convolutional_classifier: bool = option(
        False, "1x1 convolution instead of Gemm as classifier, for a DLA too", group=GRAPH, flag="--conv-classifier"
    )
    simplify: bool = option(True, "do not run onnxsim", group=GRAPH)
    half: HalfOptions | None = None

    def __post_init__(self) -> None:
        choose_opset(self.target, self.opset)
        if self.half is not None:
            check_request(self.half.kind, self.half.kind.opset, self.target, self.opset, quantized=False)
        check_options(self)
        if self.frame_input is not None and self.uint8_input:
            raise UsageError("--frame-input accepts uint8 and normalises inside already", "leave --uint8-input out")
        if self.frame_input is None and self.frame_format != "rgb":
            raise UsageError("--frame-format belongs to --frame-input")


def check_request(
    kind: HalfType, opset: int, target: Target | None, requested_opset: int | None, *, quantized: bool
) -> None:
    """Refuses what the requested opset or the target does not support.

    Raises:
        UsageError: They do not support it.
    """
    what = f"INT8 over {kind.label}" if quantized else kind.label
    if requested_opset is not None and requested_opset < opset:
        raise UsageError(f"{what} needs opset {opset}, not {requested_opset}", "leave --opset out")
    if target is None:
        return
    if opset > target.largest_opset:
        raise UsageError(
            f"an ONNX model in {what} needs opset {opset}; {target.reader} of {target.name} reads up to "
            f"{target.largest_opset}",
            f"it makes {kind.label} itself: pass `build` the {'Q/DQ' if quantized else 'float32'} model and "
            f"--precision {'int8' if quantized else kind.name}",
        )
    if target.module is not None and kind.name not in target.module.types:
        raise UsageError(f"{target.title} does not compute in {kind.label}", "choose --fp16")
