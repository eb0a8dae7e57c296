"""What a user asks of an export."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.half.convert import HalfOptions, check_request
from googlenet_deploy.export.targets import choose_opset


@dataclass(frozen=True)
class ExportOptions:
    """What the written model is to be like.

    Attributes:
        target: Where it is to run; decides the largest opset.
        opset: ONNX opset; None chooses by the target, and keeps the opset of an ONNX source without a target.
        batch: Fixed batch size; None keeps the batch symbolic, or as an ONNX source has it.
        uint8_input: Take raw NHWC RGB pixels and normalise inside.
        softmax: Give probabilities instead of logits.
        top_k: Give only the k best classes; None gives all.
        average_pool: AveragePool with a static window instead of GlobalAveragePool.
        convolutional_classifier: 1x1 convolution and Flatten instead of Flatten and Gemm.
        merge_1x1: Merge sibling 1x1 convolutions.
        simplify: Run onnxsim.
        half: Write the model in FP16 or BF16; None keeps its types.
    """

    target: Target | None = None
    opset: int | None = None
    batch: int | None = None
    uint8_input: bool = False
    softmax: bool = False
    top_k: int | None = None
    average_pool: bool = False
    convolutional_classifier: bool = False
    merge_1x1: bool = False
    simplify: bool = True
    half: HalfOptions | None = None

    def __post_init__(self) -> None:
        choose_opset(self.target, self.opset)
        if self.half is not None:
            check_request(self.half.kind, self.half.kind.opset, self.target, self.opset, quantized=False)
        for option, value in (("--batch", self.batch), ("--top-k", self.top_k)):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1")
