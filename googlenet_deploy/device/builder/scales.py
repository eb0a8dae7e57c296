"""INT8 scales for a weakly typed build: from a calibration cache, or from TensorRT's calibration on images."""

from __future__ import annotations

from typing import Callable, List

from googlenet_deploy.device.builder.calibrator import (
    cache_calibrator,
    live_calibrator,
    missing_scales,
    read_calibration_cache,
)
from googlenet_deploy.device.builder.plan import BuildRequest
from googlenet_deploy.device.cuda.memory import open_cuda
from googlenet_deploy.device.files import sha256_bytes
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import BadModelError, InputError

SHOWN = 3
_QUANTISED = ("Conv", "Gemm", "MatMul")


def attach_scales(library: TensorRT, request: BuildRequest, advance: Callable[[int], None]) -> None:
    """Attaches a calibrator to a request if its plan needs one.

    Args:
        library: TensorRT.
        request: The request; its calibrator, calibration and notes are set.
        advance: Called with the number of images of each batch that live calibration uses.

    Raises:
        BadTableError: The file is not a calibration cache.
        BadModelError: The model does not state its preprocessing.
        InputError: There are no images.
        DeviceError: Live calibration has no access to CUDA.
    """
    if request.plan.calibration == "cache":
        _use_cache(library, request, str(request.options.calibration_cache))
    elif request.plan.calibration == "live":
        _use_images(library, request, str(request.options.calibration_images), advance)


def cache_notes(header: OnnxHeader, path: str) -> List[str]:
    """Notes on what a calibration cache lacks for a model.

    Raises:
        BadTableError: It is not a calibration cache.
    """
    inputs = [node.inputs[0] for node in header.nodes if node.operator in _QUANTISED and node.inputs]
    missing = missing_scales(read_calibration_cache(path)[0], inputs)
    if not missing:
        return []
    more = ", ..." if len(missing) > SHOWN else ""
    return [
        (
            f"the cache has no scale for the input of {len(missing)} of {len(inputs)} layers, which fall back to "
            f"another type: {', '.join(missing[:SHOWN])}{more}"
        )
    ]


def _use_cache(library: TensorRT, request: BuildRequest, path: str) -> None:
    content, algorithm, count = read_calibration_cache(path)
    request.calibrator = cache_calibrator(library, content, algorithm)
    request.calibration = {"cache": path, "cache_sha256": sha256_bytes(content), "tensors": count}
    request.notes += cache_notes(request.header, path)


def _use_images(library: TensorRT, request: BuildRequest, folder: str, advance: Callable[[int], None]) -> None:
    spec = request.header.metadata.preprocessing
    if spec is None:
        raise BadModelError(
            request.model,
            "does not state how images are prepared, so it cannot be calibrated here",
            "export it with googlenet-deploy export, or calibrate with googlenet-deploy quantize --preprocessing",
        )
    chosen = _spread(find_images([folder]).images, request.options.calibration_count)
    if not chosen:
        raise InputError(folder, "has no images to calibrate with")
    request.calibration = {"folder": folder, "algorithm": request.options.calibration_algorithm}
    request.calibrator = live_calibrator(
        library,
        request.options.calibration_algorithm,
        ImageBatches(chosen, spec, _batch_size(request)),
        open_cuda(request.options.cuda_backend),
        advance,
    )


def _batch_size(request: BuildRequest) -> int:
    fixed = request.header.inputs[0].shape[0]
    return fixed if isinstance(fixed, int) else request.options.usual_batch


def _spread(images: List[ImageSource], count: int) -> List[ImageSource]:
    """At most `count` images, spread evenly."""
    kept = min(count, len(images))
    return [images[index * len(images) // kept] for index in range(kept)]
