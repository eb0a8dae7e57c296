"""Error messages for models that TensorRT rejects: the node concerned, the reason and the remedy."""

from __future__ import annotations

from typing import List

from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.tensorrt.log import BuildLog
from googlenet_deploy.device.tensorrt.trt_compat import ParseProblem
from googlenet_deploy.errors import BadModelError, DeviceError, GoogLeNetDeployError


def parse_error(path: str, header: OnnxHeader, label: str, problems: List[ParseProblem]) -> BadModelError:
    """The error for a model that TensorRT's parser rejected, with the node concerned.

    Args:
        path: The model.
        header: Its header.
        label: TensorRT's name and version.
        problems: The parser's messages.
    """
    if not problems:
        return BadModelError(path, f"{label} refuses it without a reason", "export it again, or check the download")
    problem = problems[0]
    node, operator = problem.node, problem.operator
    if not node and 0 <= problem.position < len(header.nodes):
        node, operator = header.nodes[problem.position].name, header.nodes[problem.position].operator
    where = f" at node {node} ({operator})" if node and operator else f" at node {node}" if node else ""
    text = _plain(" ".join(problem.text.split()), operator)
    more = f" (and {len(problems) - 1} more errors)" if len(problems) > 1 else ""
    return BadModelError(path, f"{label} refuses it{where}: {text}{more}", remedy(text, operator))


def _plain(text: str, operator: str) -> str:
    """The parser prints the assertion that failed; for an unsupported operator that is only ``false``."""
    if text.lower().rpartition(":")[2].strip() != "false":
        return text
    return f"{operator or 'the operator'} is unsupported (the parser reports: {text})"


def build_error(path: str, label: str, log: BuildLog) -> GoogLeNetDeployError:
    """The error for a build that ended without an engine."""
    if log.out_of_memory:
        return DeviceError(
            f"{label} ran out of memory: {log.reason}",
            "close other programs, add swap, or lower --workspace and --optimization-level",
        )
    return BadModelError(path, f"{label} cannot build it: {log.reason}", remedy(log.reason))


def remedy(text: str, operator: str = "") -> str:
    """The remedy for a rejection, chosen by its message and operator."""
    lowered = text.lower()
    if operator in ("QLinearConv", "ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"):
        return "googlenet-deploy quantize --repair fixes it, or quantise the FP32 model with googlenet-deploy quantize"
    if "no importer registered" in lowered or "unsupported" in lowered or "plugin" in lowered:
        name = operator or "the operator"
        return f"{name} does not exist in this TensorRT: simplify with googlenet-deploy export --onnx, or replace it"
    if "nvinfer_lean" in lowered:
        return "--version-compatible needs TensorRT's lean runtime: install libnvinfer-lean, or leave the option out"
    if "cuda_success" in lowered:
        return "this part of the build asks CUDA: is there a GPU with a driver? --strip-plan and --refit need one"
    if "deserializ" in lowered or "protobuf" in lowered:
        return "export it again, or check the download"
    return "googlenet-deploy inspect shows the layer; googlenet-deploy export --onnx simplifies the model"
