"""Decides how an engine is built: dialect, flags, changes to the model, notes and errors.

There are two dialects. A weakly typed build uses an FP32 (or Q/DQ) model and precision flags, which allow types that
TensorRT may or may not use. A strongly typed build (TensorRT 10.12 and later; the only dialect in 11 and TensorRT-RTX)
computes each layer in the type that the model states. Nothing here imports TensorRT, so a plan for another machine can
be made anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.builder.checks import check_request
from googlenet_deploy.device.builder.options import KEEP_FP32, BuildOptions
from googlenet_deploy.device.builder.platform import Site, site_of
from googlenet_deploy.device.engine.layers import EngineLayer
from googlenet_deploy.device.engine.manifest import EngineManifest
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.onnx_model.metadata import trained_sparsity
from googlenet_deploy.device.system.gpu import Gpu
from googlenet_deploy.device.tensorrt.names import FIRST_STRONGLY_TYPED
from googlenet_deploy.errors import BadModelError, DeviceError, UsageError

__all__ = ["BuildPlan", "Site", "plan_build", "site_of"]
_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


@dataclass(frozen=True)
class BuildPlan:
    """What the builder does.

    Attributes:
        strongly_typed: The dialect.
        precision: Smallest type that the engine may use: "fp32", "fp16", "bf16" or "int8".
        flags: Precision flags of a weakly typed build, by their common names ("FP16", "INT8", "BF16").
        calibration: "cache" or "live" for implicit INT8; "" otherwise.
        strip_qdq: Remove QuantizeLinear and DequantizeLinear first, since the GPU has no INT8.
        keep_fp32: Those operators and layers of the model that stay in FP32.
        notes: Notes for the user.
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
        """Human-readable name of the dialect."""
        return "strongly typed" if self.strongly_typed else "weakly typed"


def plan_build(header: OnnxHeader, path: str, options: BuildOptions, site: Site) -> BuildPlan:
    """Makes the plan.

    Raises:
        BadModelError: The model does not fit the request.
        UsageError: Options contradict each other.
        DeviceError: The site cannot do what is asked.
    """
    check_request(header, path, options, site)
    notes: List[str] = []
    if header.dynamic_batch and options.batch is None:
        notes.append("no --batch given: the engine accepts only single images")
    sparsity = trained_sparsity(header.metadata.extra)
    if sparsity and not options.sparsity and not site.rtx:
        notes.append(f"the weights were trained to {sparsity} sparsity: --sparsity lets TensorRT skip their zeros")
    strip = header.quantized and not site.has_int8
    if strip:
        notes.append(f"{site.capability_text} has no INT8: the Q/DQ nodes are removed and the engine is built in FP16")
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
    # A model with 16-bit types of its own is built with them if possible.
    own_types = header.float_type != "float32" and options.precision in (None, _SHORT[header.float_type], "int8")
    return options.typing == "auto" and site.version >= FIRST_STRONGLY_TYPED and own_types and not strip


def _strong_plan(header: OnnxHeader, path: str, options: BuildOptions, notes: List[str], *, strip: bool) -> BuildPlan:
    own = "int8" if header.quantized and not strip else _SHORT[header.float_type]
    wanted = options.precision
    if options.keep_fp32 not in (KEEP_FP32, ()):
        raise UsageError(
            "--keep-fp32 goes with precision flags; here the types come from the model",
            "export --fp16 --keep-fp32 LAYER writes it so",
        )
    if wanted == "int8" and not header.quantized:
        raise BadModelError(
            path, "contains no Q/DQ nodes, and a strongly typed build uses the types of the model", _make("int8")
        )
    if wanted not in (None, own, "int8"):
        raise BadModelError(
            path,
            f"is {own}, and a strongly typed build uses the types of the model, so not {wanted}",
            _make(wanted or ""),
        )
    if own == "int8" and header.float_type == "float32":
        notes.append("layers without Q/DQ compute in FP32, as in the model; export --onnx MODEL --fp16 makes them FP16")
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
            "contains no Q/DQ nodes, and no calibration was given, so INT8 has no scales",
            "googlenet-deploy quantize, or --calibration-cache FILE, or --calibration-images DIR",
        )
    if precision != "int8" and header.quantized and not strip:
        raise BadModelError(
            path, f"is quantised, so it cannot be built in {precision}", "build the model it was made from"
        )
    if precision == "bf16" and site.version < (10, 0):
        raise DeviceError(f"{site.label} has no BF16", "choose --precision fp16")
    flags = {"fp32": (), "fp16": ("FP16",), "bf16": ("BF16",), "int8": ("FP16", "INT8")}[precision]
    keep = _kept(header, options) if flags else ()
    if precision == "int8":
        notes.append("layers that cannot run in INT8 may run in FP16")
    if keep:
        reason = ": its sum of squares can overflow in FP16" if keep == KEEP_FP32 else ", as asked"
        notes.append(f"{', '.join(keep)} stays in FP32{reason}")
    if precision in ("fp16", "bf16", "int8"):
        notes.append("flags allow types, they do not enforce them; --require checks what TensorRT chose")
    return BuildPlan(
        False, precision, tuple(flags), calibration if precision == "int8" else "", strip, keep, tuple(notes)
    )


def _kept(header: OnnxHeader, options: BuildOptions) -> Tuple[str, ...]:
    known = {node.operator for node in header.nodes} | {node.name for node in header.nodes}
    unknown = [entry for entry in options.keep_fp32 if entry not in known and entry not in KEEP_FP32]
    if unknown:
        raise UsageError(f"--keep-fp32 {unknown[0]}: the model has no such layer or operator")
    return tuple(entry for entry in options.keep_fp32 if entry in known)


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
        return f"make one: googlenet-deploy export --onnx MODEL --{precision} --output MODEL.{precision}.onnx"
    return "leave --precision out, or build the FP32 model"


@dataclass
class BuildRequest:
    """One engine to build.

    Attributes:
        model: The ONNX file.
        header: The header that `read_onnx` returned.
        options: The user's options.
        plan: The plan from `plan_build`.
        gpu: The GPU that builds it; None if it is built ahead of time on a machine without a GPU.
        rebuild: The command that builds it again.
        timing_cache: Serialised timing cache to start from; empty for a new one, None to use no timing cache.
        calibrator: Calibrator for implicit INT8.
        calibration: The manifest's entry on the calibration.
        notes: Further notes, in addition to the plan's.
    """

    model: str
    header: OnnxHeader
    options: BuildOptions
    plan: BuildPlan
    gpu: Optional[Gpu] = None
    rebuild: str = ""
    timing_cache: Optional[bytes] = None
    calibrator: Optional[Any] = None
    calibration: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)


@dataclass
class BuildResult:
    """The result of a build.

    Attributes:
        engine: The serialised engine.
        manifest: Its manifest.
        layers: The layers; None if no source was available.
        timing_cache: The timing cache after the build; None without one.
        warnings: TensorRT's warnings.
    """

    engine: bytes
    manifest: EngineManifest
    layers: Optional[List[EngineLayer]]
    timing_cache: Optional[bytes]
    warnings: List[str]
