"""The contents of a new engine, from TensorRT's engine inspector, or without a GPU from TensorRT-RTX's program."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional

from googlenet_deploy.device.builder.plan import BuildRequest
from googlenet_deploy.device.engine.layers import EngineLayer, parse_inspection
from googlenet_deploy.device.engine.rtx_program import read_program
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Inspection(NamedTuple):
    """What is known about an engine's contents, and its source.

    Attributes:
        layers: The layers; None if no source was available.
        source: "engine inspector" or "program"; "" without layers.
        note: Why there are no layers.
        memory: Bytes of device memory of one context.
        remark: A further remark about the engine.
    """

    layers: Optional[List[EngineLayer]] = None
    source: str = ""
    note: str = ""
    memory: Optional[int] = None
    remark: str = ""


def inspect_engine(library: TensorRT, logger: Any, engine: bytes, request: BuildRequest) -> Inspection:  # noqa: ANN401 - TensorRT has no types
    """Inspects an engine that was just built.

    Args:
        library: TensorRT.
        logger: Its logger.
        engine: The serialised engine.
        request: What it was built from.
    """
    if library.rtx and request.gpu is None:
        return _read_program(engine, request)
    loaded = library.load_engine(logger, engine, version_compatible=request.options.version_compatible)
    if loaded is None:
        return Inspection(note="the engine that was built cannot be loaded here, so its layers are unknown")
    memory = library.device_memory(loaded)
    try:
        text = loaded.create_engine_inspector().get_engine_information(library.json_format())
        return Inspection(parse_inspection(text), "engine inspector", memory=memory)
    except (ValueError, TypeError, KeyError) as error:
        return Inspection(note=f"the engine inspector's answer cannot be read: {error}", memory=memory)


def _read_program(engine: bytes, request: BuildRequest) -> Inspection:
    """Reads the program that a TensorRT-RTX engine contains, since the inspector needs a GPU."""
    products = [node.name for node in request.header.nodes if node.operator in PRODUCTS]
    program = read_program(engine, products)
    if program is not None:
        remark = (
            f"{program.weights / 1e6:.1f} MB of the engine are weights; most of the rest is the source of "
            f"{program.kernels} generated kernels, which TensorRT-RTX compiles on the GPU"
        )
        return Inspection(program.layers, "program", memory=program.memory, remark=remark)
    return Inspection(
        note="built ahead of time: the engine inspector needs a GPU, and the engine's own program does not account for "
        "every layer"
    )
