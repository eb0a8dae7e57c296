"""Third-party programs that run our models, and how each prepares images: the only registry of hosts.

If a host's fixed preprocessing differs from the network's, there is no error: the classes are simply wrong.
`export --input-of HOST` and the bundles read the arithmetic from here and undo it in the graph; `evaluate
--preprocessing-of HOST` reads the geometry and measures its effect. To add a host, add one entry to `HOSTS`.

Sources of the figures (read in the published sources, not measured on a device):

* deepstream: Gst-nvinfer scales the whole frame to the network's input (``maintain-aspect-ratio=0``) with the filter
  ``scaling-filter`` of NvBufSurfTransform, bilinear (1) in our configurations, which does not widen when it shrinks;
  then ``net-scale-factor * (pixel - offset)`` (NVIDIA/DeepStream, src/gst-plugins/gst-nvinfer/gstnvinfer.cpp and
  src/utils/nvdsinfer/nvdsinfer_conversion.cu, release 9.1; "Gst-nvinfer" in the developer guide).
* jetson-inference: imageNet::preProcess calls cudaTensorNormMeanRGB for every ONNX model, with range 0..1, ImageNet's
  mean and standard deviation; the kernel takes the pixel ``(int)(x * inputWidth / outputWidth)`` of the frame, which is
  nearest-neighbour stretching without averaging (dusty-nv/jetson-inference, c/imageNet.cpp and c/tensorConvert.cu).
  tensorNet sets no optimisation profile, so the batch must be fixed, and processes one image. Built with TensorRT 10
  it takes an output's first dimension for the number of classes without leaving out the batch, as it does with older
  versions: (1, 1000) is one class there and the label file is refused, (1000,) is right in both (c/tensorNet.cpp).
* opencv: ``cv::resize`` with its default INTER_LINEAR, which does not widen when it shrinks (OpenCV's documentation of
  ``resize``: "To shrink an image, it will generally look best with INTER_AREA interpolation"), in a program that
  otherwise prepares images as the model specifies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import UsageError


@dataclass(frozen=True)
class HostNormalization:
    """``(pixel * scale - mean) / std`` as a host computes it, for pixels 0..255.

    Attributes:
        channels: Order of the channels: "RGB" or "BGR".
        scale: Multiplies the pixel.
        mean: Per channel, after `scale`.
        std: Per channel, after `scale`.
    """

    channels: str
    scale: float
    mean: Tuple[float, ...]
    std: Tuple[float, ...]


@dataclass(frozen=True)
class Host:
    """The preprocessing of one host.

    Attributes:
        name: Its name in options.
        title: Human-readable name.
        resize_mode: Geometry, as in `Preprocessing.resize_mode`: "stretch" to the network's input whatever the
            image's shape; None if it is configurable, so that the model's own is used.
        interpolation: Filter of the resize, as in `Preprocessing.interpolation`.
        antialias: Whether the filter is widened for downscaling.
        normalization: The host's fixed normalisation, independent of the model; None if it is configurable.
        batch: The only batch size that it runs; None for any.
        probabilities: Whether it compares the output with a threshold, so that it cannot use logits.
        flat_output: Whether it takes the output's first dimension as the number of classes, so a leading batch of 1
            is read as one class.
    """

    name: str
    title: str
    resize_mode: Optional[str]
    interpolation: str
    antialias: bool
    normalization: Optional[HostNormalization] = None
    batch: Optional[int] = None
    probabilities: bool = False
    flat_output: bool = False


_IMAGENET = HostNormalization("RGB", 1.0 / 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

HOSTS: Dict[str, Host] = {
    host.name: host
    for host in (
        Host("deepstream", "DeepStream (Gst-nvinfer)", "stretch", "bilinear", antialias=False, probabilities=True),
        Host(
            "jetson-inference",
            "jetson-inference (imageNet)",
            "stretch",
            "nearest",
            antialias=False,
            normalization=_IMAGENET,
            batch=1,
            probabilities=True,
            flat_output=True,
        ),
        Host("opencv", "a program that resizes with OpenCV's INTER_LINEAR", None, "bilinear", antialias=False),
    )
}


def host_names() -> List[str]:
    """All hosts, in the order of the registry."""
    return list(HOSTS)


def fixed_hosts() -> List[str]:
    """The hosts whose normalisation cannot be configured, so that the model must undo it."""
    return [name for name, host in HOSTS.items() if host.normalization is not None]


def find_host(name: str) -> Host:
    """Looks a host up.

    Raises:
        UsageError: There is no such host.
    """
    if name not in HOSTS:
        raise UsageError(f"unknown host {name!r}", f"choose {', '.join(HOSTS)}")
    return HOSTS[name]


def host_geometry(host: Host, spec: Preprocessing) -> Preprocessing:
    """The host's crop and resize for a model, with the model's normalisation."""
    changes: Dict[str, Any] = {"interpolation": host.interpolation, "antialias": host.antialias}
    if host.resize_mode is not None:
        changes.update(resize_mode=host.resize_mode, resize=None, fill=(0,))
    return replace(spec, **changes)


def host_input(host: Host, spec: Preprocessing) -> Preprocessing:
    """The host's preprocessing for a model with float32 NCHW input: its geometry, and its normalisation if fixed.

    Raises:
        UsageError: The model takes another type or layout, another number of channels, or frames.
    """
    geometry = host_geometry(host, spec)
    fixed = host.normalization
    if fixed is None:
        return geometry
    if spec.frame is not None:
        raise UsageError(
            f"the model resizes {spec.describe_frame()} itself, which {host.title} does before the model",
            "use the model that it was made from",
        )
    if spec.dtype != "float32" or spec.layout != "NCHW" or len(spec.channels) != len(fixed.channels):
        raise UsageError(
            f"{host.title} gives float32 NCHW with the channels {fixed.channels}, the model accepts {spec.dtype} "
            f"{spec.layout} with {spec.channels}",
            "export it without --uint8-input",
        )
    return replace(geometry, channels=fixed.channels, scale=fixed.scale, mean=fixed.mean, std=fixed.std)
