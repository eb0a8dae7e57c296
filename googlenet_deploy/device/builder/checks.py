"""Finds what cannot be built before TensorRT runs, by checking model, options and site against each other."""

from __future__ import annotations

from typing import Tuple

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.platform import Site
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.onnx_model.metadata import FRAMES_LAST
from googlenet_deploy.device.targets.target import largest_opset
from googlenet_deploy.device.tensorrt.names import Version
from googlenet_deploy.errors import BadModelError, DeviceError, UsageError

# DLA: 10.7 is the last TensorRT 10 with it; TensorRT 11 has it again from 11.4 on, with explicit quantisation.
_NO_DLA: Tuple[Version, Version] = ((10, 8), (11, 4))
# First compute capability with BF16.
_BF16: Tuple[int, int] = (8, 0)
# Names of input types that TensorRT does not have.
_NO_NUMBERS = ("string", "other")
# TensorRT-RTX 1.x includes TensorRT 11's parser.
_PARSER_OF_RTX: Version = (11, 0)


def check_request(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> None:
    """Rejects what cannot be built.

    Args:
        header: The model.
        path: Its file.
        options: The user's options.
        site: Where the engine is to run.

    Raises:
        BadModelError: The model does not fit the request.
        UsageError: Options contradict each other.
        DeviceError: The site cannot do what is asked.
    """
    _check_opset(header, path, site)
    _check_input(header, path, options)
    _check_frames(header, path, options)
    _check_calibration(header, path, options, site)
    _check_types(header, options, site)
    _check_hardware(options, site)
    _check_dla(header, path, options, site)


def _check_opset(header: OnnxHeader, path: str, site: Site) -> None:
    limit = largest_opset(_PARSER_OF_RTX if site.rtx else site.version)
    if header.opset <= limit:
        return
    way = f"export it with --opset {limit}, or with the --target"
    if header.float_type != "float32":
        way = "build the FP32 or Q/DQ model that it was made from, with --precision"
    raise BadModelError(path, f"has opset {header.opset}, and {site.label} reads up to {limit}", way)


def _check_input(header: OnnxHeader, path: str, options: BuildOptions) -> None:
    if len(header.inputs) != 1:
        names = ", ".join(value.name for value in header.inputs[:5]) or "none"
        raise BadModelError(path, f"has {len(header.inputs)} inputs ({names}); an image classifier has one")
    (value,) = header.inputs
    if value.dtype in _NO_NUMBERS:
        raise BadModelError(path, f"its input {value.name} is of type {value.dtype}; an image classifier takes numbers")
    fixed = value.shape[:1]
    if options.batch and not header.dynamic_batch and options.batch != (fixed[0],) * 3:
        raise BadModelError(
            path,
            f"has the fixed batch {fixed[0]}, so it cannot be built for {options.batch}",
            "export it without --batch",
        )


def _check_frames(header: OnnxHeader, path: str, options: BuildOptions) -> None:
    spec = header.metadata.preprocessing
    implicit = options.calibration_cache or options.calibration_images or options.precision == "int8"
    if spec is not None and spec.frame is not None and implicit and not header.quantized:
        problem = "resizes frames inside, and INT8 without Q/DQ nodes would take in the resize"
        raise BadModelError(path, problem, FRAMES_LAST)


def _check_calibration(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> None:
    if not (options.calibration_cache or options.calibration_images):
        return
    if options.calibration_cache and options.calibration_images:
        raise UsageError("--calibration-cache and --calibration-images exclude each other")
    if header.quantized:
        raise BadModelError(
            path,
            "contains Q/DQ nodes, which calibration cannot be combined with",
            "calibrate the FP32 model, or leave it out",
        )
    if options.precision not in (None, "int8"):
        raise UsageError(f"calibration is for INT8, not {options.precision}")
    if site.strong_only or options.typing == "strong":
        raise DeviceError(
            f"{site.label} accepts no calibration: implicit INT8 ended with TensorRT 10",
            "build a Q/DQ model: googlenet-deploy quantize",
        )
    if not site.has_int8:
        raise DeviceError(
            f"{site.capability_text} has no INT8, so calibrating is of no use there", "build --precision fp16"
        )


def _check_types(header: OnnxHeader, options: BuildOptions, site: Site) -> None:
    if options.precision == "int8" and not site.has_int8 and not header.quantized:
        raise DeviceError(f"{site.capability_text} has no INT8", "build --precision fp16")
    wants_bf16 = options.precision == "bf16" or header.float_type == "bfloat16"
    if wants_bf16 and site.compute_capability is not None and site.compute_capability < _BF16:
        raise DeviceError(f"{site.capability_text} has no BF16", "choose FP16")


def _check_hardware(options: BuildOptions, site: Site) -> None:
    capability = site.compute_capability
    if options.version_compatible and site.version < (8, 6) and not site.rtx:
        raise DeviceError(f"{site.label} has no version-compatible engines; TensorRT 8.6 and later do")
    if options.version_compatible and capability is not None and capability < (7, 0):
        raise DeviceError("version-compatible engines need compute capability 7.0 or later")
    if options.strip_plan and site.version < (10, 0) and not site.rtx:
        raise DeviceError(f"{site.label} cannot strip weights; TensorRT 10 and later can")
    if options.compute_capabilities and not site.rtx:
        raise UsageError(
            "--compute-capability is for --backend tensorrt-rtx: TensorRT builds for the GPU that it runs on",
            "leave it out and build on the device",
        )


def _check_dla(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> None:
    if options.dla_core is None:
        return
    if site.rtx or _NO_DLA[0] <= site.version < _NO_DLA[1]:
        raise DeviceError(f"{site.label} has no DLA support", "leave --dla-core out")
    if site.dla_cores is not None and options.dla_core >= site.dla_cores:
        have = f"has {site.dla_cores} DLA cores" if site.dla_cores else "has no DLA"
        raise DeviceError(f"{site.label} {have}, so there is no core {options.dla_core}", "leave --dla-core out")
    if header.dynamic_batch and options.batch and len(set(options.batch)) > 1:
        raise UsageError("a DLA supports one batch size", "pass --batch N")
    if header.quantized and site.version < _NO_DLA[1]:
        raise BadModelError(
            path,
            f"contains Q/DQ nodes, and the DLA of {site.label} accepts INT8 only from a calibration cache",
            "build the FP32 model with --precision int8 --calibration-cache FILE, which quantize --cache writes",
        )
    plain = header.float_type == "float32" and not header.quantized
    calibrated = options.calibration_cache or options.calibration_images
    if options.precision == "fp32" or (options.precision is None and plain and not calibrated):
        raise UsageError("a DLA computes in FP16 and INT8 only", "pass --precision fp16 or int8")
