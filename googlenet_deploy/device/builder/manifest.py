"""Makes the manifest of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from googlenet_deploy.device.builder.inspection import Inspection
from googlenet_deploy.device.builder.plan import BuildRequest
from googlenet_deploy.device.engine.layers import precision_shares
from googlenet_deploy.device.engine.manifest import EngineManifest
from googlenet_deploy.device.files import sha256_bytes
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.onnx_model.messages import Value
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT


def make_manifest(
    library: TensorRT,
    request: BuildRequest,
    engine: bytes,
    inspection: Inspection,
    dla: Dict[str, Any],
    cache: Optional[bytes],
    seconds: float,
) -> EngineManifest:
    """Makes the manifest of a new engine.

    Args:
        library: TensorRT.
        request: What was built.
        engine: The serialised engine.
        inspection: Its contents.
        dla: What runs on the DLA; see `EngineManifest`.
        cache: The timing cache after the build; None without one.
        seconds: How long the build took.
    """
    gpu = request.gpu
    capabilities = request.options.compute_capabilities or ((gpu.compute_capability,) if gpu else ())
    return EngineManifest(
        engine_sha256=sha256_bytes(engine),
        engine_bytes=len(engine),
        backend="tensorrt-rtx" if library.rtx else "tensorrt",
        tensorrt_version=library.version_text,
        compute_capabilities=tuple(f"{major}.{minor}" for major, minor in capabilities),
        gpu=gpu.name if gpu else "",
        dialect=request.plan.dialect,
        precision=request.plan.precision,
        flags=request.plan.flags,
        options=request.options.to_dict(),
        inputs=tuple(_value(value) for value in request.header.inputs),
        outputs=tuple(_value(value) for value in request.header.outputs),
        batch=(request.options.batch or (1, 1, 1)) if request.header.dynamic_batch else None,
        layers=tuple(layer.to_dict() for layer in inspection.layers or ()),
        layers_note=inspection.note,
        precision_shares=precision_shares(inspection.layers or ()),
        device_memory_bytes=inspection.memory,
        timing_cache_sha256=sha256_bytes(cache) if cache is not None else "",
        calibration=request.calibration,
        build_seconds=round(seconds, 3),
        notes=(*request.plan.notes, *request.notes),
        source={
            "file": Path(request.model).name,
            "sha256": model_sha256(request.model),
            "opset": request.header.opset,
            "metadata": request.header.metadata.to_properties(),
        },
        rebuild=request.rebuild,
        dla=dla,
        layers_from=inspection.source,
    )


def _value(value: Value) -> Dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "shape": list(value.shape)}
