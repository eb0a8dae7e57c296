"""From a PyTorch classifier to the ONNX graph that the passes start from.

`torch.onnx.export` with its dynamo exporter records the graph. Two operators are translated here: local response
normalisation, which the exporter cannot know, to ONNX ``LRN``, and the adaptive pooling, which it would take apart, to
``GlobalAveragePool``. BatchNorm is folded into the convolutions beforehand.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from googlenet_deploy.errors import GoogLeNetDeployError, requires
from googlenet_deploy.export.quiet import silenced

with requires("export"):
    import torch
    from onnx import ModelProto
    from onnxscript import FLOAT, opset18
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    # The import registers the operator that the translation table below names.
    from googlenet_deploy.model import local_response_norm as _local_response_norm  # noqa: F401
    from googlenet_deploy.model.blocks import ConvBlock
    from googlenet_deploy.model.googlenet import GoogLeNet

# The opset that torch's dynamo exporter writes natively; asking it for another makes it run onnx's version
# converter out of our sight. `ConvertOpset` does that step, and its result is checked.
CAPTURE_OPSET = 18
INPUT_NAME = "input"
LOGITS_NAME = "logits"
BATCH_SYMBOL = "batch"


def capture(model: GoogLeNet, input_size: tuple[int, int]) -> ModelProto:
    """Records the inference graph of a classifier.

    Args:
        model: The classifier, on any device; it is left as it was.
        input_size: (height, width) of the input, in pixels.

    Returns:
        An ONNX model of opset `CAPTURE_OPSET`: ``input``, float32 (batch, channels, height, width), to ``logits``,
        float32 (batch, classes). The batch is a symbol.

    Raises:
        GoogLeNetDeployError: torch's exporter failed.
    """
    inference = fold_batch_norm(copy.deepcopy(model).cpu().float().without_auxiliary().eval())
    inference.add_module("dropout", nn.Identity())
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, inference.in_channels, *input_size)
    with silenced() as captured:
        program, failure = None, None
        try:
            program = torch.onnx.export(
                inference,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=CAPTURE_OPSET,
                input_names=[INPUT_NAME],
                output_names=[LOGITS_NAME],
                dynamic_shapes=({0: torch.export.Dim(BATCH_SYMBOL)},),
                # onnxscript's optimiser would store equal parameters once and drop zero biases, so that the
                # graph depended on the values of the weights.
                optimize=False,
                custom_translation_table={
                    torch.ops.googlenet_deploy.local_response_norm.default: _lrn,
                    torch.ops.aten.adaptive_avg_pool2d.default: _global_average_pool,
                },
            )
        except Exception as error:  # noqa: BLE001 - the exporter raises whatever its many parts raise
            failure = error
    if program is None:
        summary = str(failure).strip().partition("\n")[0] or captured.last_lines()
        raise GoogLeNetDeployError(
            f"torch's ONNX exporter failed: {summary}",
            f"torch {torch.__version__} is installed; constraints.txt names the version that this was tested with",
        ) from failure
    return program.model_proto


def fold_batch_norm(model: GoogLeNet) -> GoogLeNet:
    """Folds every BatchNorm of a model in eval mode into the convolution ahead of it, in place."""
    for module in model.modules():
        if isinstance(module, ConvBlock) and module.bn is not None:
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = None
    return model


def _lrn(x: FLOAT, size: int, alpha: float, beta: float, k: float) -> FLOAT:
    """The translation of googlenet_deploy::local_response_norm: the same formula, with k called bias."""
    return opset18.LRN(x, size=size, alpha=alpha, beta=beta, bias=k)


def _global_average_pool(x: FLOAT, output_size: Sequence[int]) -> FLOAT:
    """The translation of an adaptive average pool to 1x1."""
    if list(output_size) != [1, 1]:
        raise NotImplementedError(f"an adaptive average pool to {list(output_size)} has no ONNX operator")
    return opset18.GlobalAveragePool(x)
