"""Decides how an engine is built: dialect, flags, what is refused, what is changed and said aloud.

Two dialects: a weakly typed build takes an FP32 (or Q/DQ) model and precision flags, which allow types that TensorRT
may or may not use; a strongly typed build (TensorRT 10.12 and later; the only one in 11 and TensorRT-RTX) computes each
layer in the type that the model states. Nothing here imports TensorRT, so a plan for another machine is made anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from googlenet_deploy.device.build_options import BuildOptions
from googlenet_deploy.device.onnx_header import OnnxHeader
from googlenet_deploy.device.target import NO_INT8, Target, largest_opset
from googlenet_deploy.device.trt_compat import FIRST_STRONGLY_TYPED, ONLY_STRONGLY_TYPED, Version
from googlenet_deploy.errors import BadModelError, DeviceError, UsageError

_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
# DLA: last TensorRT 10 with it is 10.7, and TensorRT 11 has it again from 11.4 on.
_NO_DLA: Tuple[Version, Version] = ((10, 8), (11, 4))


@dataclass(frozen=True)
class Site:
    """Where the engine is to run, as far as it is known.

    Attributes:
        label: For messages: ``TensorRT 8.5 of jetpack-5.1``.
        version: TensorRT version; of TensorRT-RTX its own.
        rtx: Whether it is TensorRT-RTX.
        compute_capability: None where it is not known.
        dla_cores: None where it is not known.
    """

    label: str
    version: Version
    rtx: bool = False
    compute_capability: Optional[Tuple[int, int]] = None
    dla_cores: Optional[int] = None

    @property
    def has_int8(self) -> bool:
        """Whether the GPU computes in INT8, as far as it is known."""
        return self.compute_capability not in NO_INT8

    @property
    def strong_only(self) -> bool:
        """Whether there are only strongly typed networks."""
        return self.rtx or self.version >= ONLY_STRONGLY_TYPED


@dataclass(frozen=True)
class BuildPlan:
    """What the builder does.

    Attributes:
        strongly_typed: The dialect.
        precision: Smallest type that the engine may use: "fp32", "fp16", "bf16" or "int8".
        flags: Precision flags of a weakly typed build, by their common names ("FP16", "INT8", "BF16").
        calibration: "cache" or "live" for implicit INT8; "" otherwise.
        strip_qdq: Remove QuantizeLinear and DequantizeLinear first, since the GPU has no INT8.
        keep_fp32: Operators that stay in FP32.
        notes: Everything that the user should know.
    """

    strongly_typed: bool
    precision: str
    flags: Tuple[str, ...] = ()
    calibration: str = ""
    strip_qdq: bool = False
    keep_fp32: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    @property
    def dialect(self) -> str:
        """For people."""
        return "strongly typed" if self.strongly_typed else "weakly typed"


def site_of(target: Target) -> Site:
    """The site that a target stands for; of a module, its oldest TensorRT."""
    module = target.module
    return Site(
        label=f"{target.reader} of {target.name}",
        version=target.tensorrt[0] if target.tensorrt else (1, 0),
        rtx=target.rtx,
        compute_capability=module.compute_capability if module else None,
        dla_cores=module.dla_cores if module else None,
    )


def plan_build(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> BuildPlan:
    """Makes the plan.

    Raises:
        BadModelError: The model does not fit the request.
        UsageError: Options contradict each other.
        DeviceError: The site cannot do what is asked.
    """
    _check_opset(header, path, site)
    _check_batch(header, path, options)
    _check_calibration(header, path, options, site)
    _check_hardware(options, site)
    notes: List[str] = []
    strip = header.quantized and not site.has_int8
    if strip:
        capability = ".".join(map(str, site.compute_capability or ()))
        notes.append(
            f"compute capability {capability} has no INT8: the Q/DQ nodes are removed and the engine is built in FP16"
        )
    if _is_strong(header, options, site, strip=strip):
        return _strong_plan(header, path, options, notes, strip=strip)
    return _weak_plan(header, path, options, site, notes, strip=strip)


def _is_strong(header: OnnxHeader, options: BuildOptions, site: Site, *, strip: bool) -> bool:
    if site.strong_only:
        if options.typing == "weak":
            raise DeviceError(f"{site.label} has only strongly typed networks", "leave --typing out")
        return True
    if options.typing == "strong":
        if site.version < FIRST_STRONGLY_TYPED:
            raise DeviceError(
                f"{site.label} cannot build this strongly typed; that needs TensorRT 10.12 or later",
                "leave --typing out",
            )
        return True
    # A model that states its own 16-bit types is built with them where that's possible.
    own_types = header.float_type != "float32" and options.precision in (None, _SHORT[header.float_type], "int8")
    return options.typing == "auto" and site.version >= FIRST_STRONGLY_TYPED and own_types and not strip


def _strong_plan(header: OnnxHeader, path: str, options: BuildOptions, notes: List[str], *, strip: bool) -> BuildPlan:
    own = "int8" if header.quantized and not strip else _SHORT[header.float_type]
    wanted = options.precision
    if wanted == "int8" and not header.quantized:
        raise BadModelError(
            path, "holds no Q/DQ nodes, and a strongly typed build takes its types from the model", _make("int8")
        )
    if wanted not in (None, own, "int8"):
        raise BadModelError(
            path,
            f"is {own}, and a strongly typed build takes its types from the model, so not {wanted}",
            _make(wanted or ""),
        )
    if own == "int8" and header.float_type == "float32":
        notes.append("layers without Q/DQ compute in FP32, as the model says; quantise an FP16 model for FP16")
    notes.append("types come from the model; no precision flag is set")
    return BuildPlan(True, own, strip_qdq=strip, notes=tuple(notes))


def _weak_plan(
    header: OnnxHeader, path: str, options: BuildOptions, site: Site, notes: List[str], *, strip: bool
) -> BuildPlan:
    calibration = "cache" if options.calibration_cache else "live" if options.calibration_images else ""
    precision = options.precision or _default_precision(header, calibration, notes, strip=strip)
    if precision == "int8" and strip:
        precision = "fp16"
    if precision == "int8" and not header.quantized and not calibration:
        raise BadModelError(
            path,
            "holds no Q/DQ nodes, and no calibration was given, so INT8 has no scales",
            "googlenet-deploy quantize, or --calibration-cache FILE, or --calibration-images DIR",
        )
    if precision != "int8" and header.quantized and not strip:
        raise BadModelError(
            path, f"is quantised, so it cannot be built in {precision}", "build the model it was made from"
        )
    if precision == "bf16" and site.version < (10, 0):
        raise DeviceError(f"{site.label} has no BF16", "choose --precision fp16")
    flags = {"fp32": (), "fp16": ("FP16",), "bf16": ("BF16",), "int8": ("FP16", "INT8")}[precision]
    keep = tuple(name for name in options.keep_fp32 if flags and any(node.operator == name for node in header.nodes))
    if precision == "int8":
        notes.append("layers that cannot run in INT8 may run in FP16")
    if keep:
        notes.append(f"{', '.join(keep)} stays in FP32: its sum of squares can overflow in FP16")
    if precision in ("fp16", "bf16", "int8"):
        notes.append("flags allow types, they do not enforce them; --require checks what TensorRT chose")
    return BuildPlan(
        False, precision, tuple(flags), calibration if precision == "int8" else "", strip, keep, tuple(notes)
    )


def _default_precision(header: OnnxHeader, calibration: str, notes: List[str], *, strip: bool) -> str:
    if strip:
        return "fp16"
    if header.quantized or calibration:
        return "int8"
    precision = _SHORT[header.float_type]
    if precision == "fp32":
        notes.append("no --precision given and the model is FP32: the engine is FP32")
    return precision


def _make(precision: str) -> str:
    if precision == "int8":
        return "make one: googlenet-deploy quantize MODEL --images DIR --output MODEL.int8.onnx"
    if precision in ("fp16", "bf16"):
        return f"make one: googlenet-deploy export ... --{precision}"
    return "leave --precision out, or build the FP32 model"


def _check_opset(header: OnnxHeader, path: str, site: Site) -> None:
    limit = largest_opset(site.version) if not site.rtx else None
    if limit is not None and header.opset > limit:
        raise BadModelError(
            path, f"has opset {header.opset}, and {site.label} reads up to {limit}", f"export it with --opset {limit}"
        )


def _check_batch(header: OnnxHeader, path: str, options: BuildOptions) -> None:
    if len(header.inputs) != 1:
        names = ", ".join(value.name for value in header.inputs[:5]) or "none"
        raise BadModelError(path, f"has {len(header.inputs)} inputs ({names}); an image classifier has one")
    fixed = header.inputs[0].shape[:1]
    if options.batch and not header.dynamic_batch and options.batch != (fixed[0],) * 3:
        raise BadModelError(
            path,
            f"has the fixed batch {fixed[0]}, so it cannot be built for {options.batch}",
            "export it without --batch",
        )
    if options.dla_core is not None and header.dynamic_batch and options.batch and len(set(options.batch)) > 1:
        raise UsageError("a DLA takes one batch size", "give --batch N")


def _check_calibration(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> None:
    if not (options.calibration_cache or options.calibration_images):
        return
    if options.calibration_cache and options.calibration_images:
        raise UsageError("--calibration-cache and --calibration-images exclude each other")
    if header.quantized:
        raise BadModelError(
            path,
            "holds Q/DQ nodes, which calibration cannot be combined with",
            "calibrate the FP32 model, or leave it out",
        )
    if options.precision not in (None, "int8"):
        raise UsageError(f"calibration is for INT8, not {options.precision}")
    if site.strong_only or options.typing == "strong":
        raise DeviceError(
            f"{site.label} takes no calibration: implicit INT8 ended with TensorRT 10",
            "build a Q/DQ model: googlenet-deploy quantize",
        )
    if not site.has_int8:
        capability = ".".join(map(str, site.compute_capability or ()))
        raise DeviceError(
            f"compute capability {capability} has no INT8, so calibrating is of no use there", "build --precision fp16"
        )


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
    _check_dla(options, site)


def _check_dla(options: BuildOptions, site: Site) -> None:
    if options.dla_core is None:
        return
    if site.rtx or _NO_DLA[0] <= site.version < _NO_DLA[1]:
        raise DeviceError(f"{site.label} has no DLA support", "leave --dla-core out")
    if site.dla_cores is not None and options.dla_core >= site.dla_cores:
        have = f"has {site.dla_cores} DLA cores" if site.dla_cores else "has no DLA"
        raise DeviceError(f"{site.label} {have}, so there is no core {options.dla_core}", "leave --dla-core out")
    if options.precision == "fp32":
        raise UsageError("a DLA computes in FP16 and INT8 only", "give --precision fp16 or int8")
