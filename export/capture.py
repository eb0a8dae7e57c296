"""From a PyTorch classifier to the ONNX graph that the passes start from.

`torch.onnx.export` with its dynamo exporter records the graph. Two operators are translated here: local response
normalisation, which the exporter does not know, to ONNX ``LRN``, and the adaptive pooling, which it would decompose, to
``GlobalAveragePool``. BatchNorm of a GoogLeNet is folded into the convolutions beforehand. If dynamo cannot record a
network, the exporter based on TorchScript is tried once, unless the network's forward branches on the values of
tensors: that exporter records only the branches that a single image takes.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from googlenet_deploy.errors import GoogLeNetDeployError, requires
from googlenet_deploy.export.quiet import silenced
from googlenet_deploy.graph.graph import all_inputs

with requires("export"):
    import torch
    from onnx import ModelProto, load_model
    from onnxscript import FLOAT, opset18
    from onnxscript.optimizer import fold_constants
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from googlenet_deploy.model.blocks import ConvBlock
    from googlenet_deploy.model.googlenet import GoogLeNet

    # The import also registers the operator that the translation table below names.
    from googlenet_deploy.model.local_response_norm import LocalResponseNorm

# The opset that torch's dynamo exporter writes natively; for any other it runs onnx's version
# converter without our control. `ConvertOpset` does that step instead, and its result is checked.
CAPTURE_OPSET = 18
INPUT_NAME = "input"
LOGITS_NAME = "logits"
BATCH_SYMBOL = "batch"
OTHER_POOL = "an adaptive average pool to"
DATA_DEPENDENT = re.compile(r"data-dependent|DataDependent|dynamic control flow|Dynamic control flow", re.IGNORECASE)


def capture(
    model: nn.Module,
    input_size: tuple[int, int],
    channels: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> ModelProto:
    """Records the inference graph of a classifier.

    Args:
        model: The classifier, on any device; it is left as it was.
        input_size: (height, width) of the input, in pixels.
        channels: Channels of the input; None uses the GoogLeNet's own.
        report: Receives notes on how the graph was recorded.

    Returns:
        An ONNX model of opset `CAPTURE_OPSET`: ``input``, float32 (batch, channels, height, width), to ``logits``,
        float32 (batch, classes). The batch is symbolic.

    Raises:
        GoogLeNetDeployError: torch's exporters failed, or the forward branches on values.
    """
    inference = _for_inference(model)
    # Two images: a batch of one would be treated as a constant.
    example = torch.zeros(2, channels or _channels(model), *input_size)
    translations = {torch.ops.googlenet_deploy.local_response_norm.default: _lrn}
    pool = {torch.ops.aten.adaptive_avg_pool2d.default: _global_average_pool}
    try:
        return _by_dynamo(inference, example, {**translations, **pool})
    except Exception as error:  # noqa: BLE001 - the exporter raises exceptions of any kind
        failure: BaseException = error
    if _has_cause(failure, NotImplementedError, OTHER_POOL):
        try:
            return _by_dynamo(inference, example, translations)
        except Exception as error:  # noqa: BLE001
            failure = error
    _raise_for_branches(failure)
    if isinstance(model, GoogLeNet):
        raise _failed(failure) from failure
    try:
        recorded = _by_torchscript(inference, example)
    except Exception as error:  # noqa: BLE001
        raise _failed(failure, error) from failure
    why = _summary(failure)
    report(f"the exporter based on TorchScript recorded the graph, since the dynamo exporter failed: {why}")
    return recorded


def depends_on_input(model: ModelProto) -> bool:
    """Whether a recorded graph computes its scores from the input's values, not only from its shape or not at all."""
    reached = {INPUT_NAME}
    for node in model.graph.node:
        if node.op_type not in ("Shape", "Size") and reached.intersection(all_inputs(node)):
            reached.update(node.output)
    return LOGITS_NAME in reached


def _by_dynamo(
    inference: nn.Module, example: torch.Tensor, translations: Mapping[Any, Callable[..., Any]]
) -> ModelProto:
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
                custom_translation_table=dict(translations),
            )
        except Exception as error:  # noqa: BLE001 - raised again outside, where output is shown again
            failure = error
    if failure is not None:
        raise failure
    if program is None:
        raise RuntimeError(captured.last_lines())
    if not isinstance(inference, GoogLeNet):
        # Axes and shapes that the exporter computes from constants; later passes and older opsets need their values.
        fold_constants(program.model)
    recorded = program.model_proto
    for node in recorded.graph.node:
        # At its default; onnx's version converter keeps it even if older opsets do not know it.
        default = [item for item in node.attribute if item.name == "noop_with_empty_axes" and item.i == 0]
        for item in default:
            node.attribute.remove(item)
    return recorded


def _by_torchscript(inference: nn.Module, example: torch.Tensor) -> ModelProto:
    with silenced(), warnings.catch_warnings(), TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _traced(inference, example),
            (example,),
            path,
            dynamo=False,
            opset_version=CAPTURE_OPSET,
            input_names=[INPUT_NAME],
            output_names=[LOGITS_NAME],
            dynamic_axes={INPUT_NAME: {0: BATCH_SYMBOL}, LOGITS_NAME: {0: BATCH_SYMBOL}},
            do_constant_folding=True,
        )
        return load_model(path)


def _traced(inference: nn.Module, example: torch.Tensor) -> nn.Module:
    """The network itself, unless parts of it are scripted, which the exporter accepts only in a trace of the whole."""
    whole = isinstance(inference, torch.jit.ScriptModule)
    if whole or not any(isinstance(module, torch.jit.ScriptModule) for module in inference.modules()):
        return inference
    trace: Any = torch.jit.trace  # which has no annotations
    traced: nn.Module = trace(inference, example, check_trace=False)
    return traced


def _for_inference(model: nn.Module) -> nn.Module:
    """A copy of the network in eval mode, on the CPU in float32, without what only training uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moving a scripted module warns of gradients, which it does not have
        copied = copy.deepcopy(model).cpu().float().eval()
    if isinstance(copied, GoogLeNet):
        fold_batch_norm(copied.without_auxiliary())
        copied.add_module("dropout", nn.Identity())
        return copied
    for parent in list(copied.modules()):
        # Without a bias the exporter computes a zero bias from the input, which prevents BatchNorm from being folded.
        if isinstance(parent, nn.Conv2d) and parent.bias is None:
            parent.bias = nn.Parameter(torch.zeros(parent.out_channels))
        for name, child in list(parent.named_children()):
            if type(child) is nn.LocalResponseNorm:  # which the exporter would decompose
                setattr(parent, name, LocalResponseNorm(child.size, child.alpha, child.beta, child.k))
    return copied


def _channels(model: nn.Module) -> int:
    channels = getattr(model, "in_channels", 3)
    return channels if isinstance(channels, int) else 3


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        yield failure
        failure = failure.__cause__ or failure.__context__


def _has_cause(failure: BaseException, kind: type[BaseException], words: str) -> bool:
    return any(isinstance(cause, kind) and words in str(cause) for cause in _causes(failure))


def _raise_for_branches(failure: BaseException) -> None:
    for cause in _causes(failure):
        if DATA_DEPENDENT.search(f"{type(cause).__name__}: {cause}"):
            raise GoogLeNetDeployError(
                f"the network's forward branches on the values of tensors: {_summary(cause)}",
                "an ONNX graph has no such branches: write it with torch.where, or branch on sizes alone",
            ) from failure


def _failed(failure: BaseException, second: BaseException | None = None) -> GoogLeNetDeployError:
    also = f"; the one based on TorchScript: {_summary(second)}" if second is not None else ""
    return GoogLeNetDeployError(
        f"torch's ONNX exporter failed: {_summary(failure)}{also}",
        f"torch {torch.__version__} is installed; constraints.txt names the version that this was tested with",
    )


def _summary(failure: BaseException) -> str:
    """The first line of the innermost failure that has a message."""
    causes = [cause for cause in _causes(failure) if str(cause).strip()]
    if not causes:
        return type(failure).__name__
    line = str(causes[-1]).strip().partition("\n")[0]
    # A single word, such as the key of a KeyError, explains nothing without the exception's type.
    return line[:300] if " " in line else f"{type(causes[-1]).__name__}: {line}"[:300]


def fold_batch_norm(model: GoogLeNet) -> GoogLeNet:
    """Folds every BatchNorm of a model in eval mode into the convolution before it, in place."""
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
        raise NotImplementedError(f"{OTHER_POOL} {list(output_size)} has no ONNX operator")
    return opset18.GlobalAveragePool(x)
