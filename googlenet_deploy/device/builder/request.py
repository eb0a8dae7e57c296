"""One engine to build, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildPlan
from googlenet_deploy.device.engine.layers import EngineLayer
from googlenet_deploy.device.engine.manifest import EngineManifest
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.system.gpu import Gpu


@dataclass
class BuildRequest:
    """One engine to build.

    Attributes:
        model: The ONNX file.
        header: What `read_onnx` found in it.
        options: What was asked for.
        plan: What `plan_build` decided.
        gpu: Where it is built; None where it is built ahead of time on a machine without one.
        rebuild: The command that builds it again.
        timing_cache: Serialised timing cache to start from; empty for a new one, None for none.
        calibrator: Calibrator for implicit INT8.
        calibration: What the manifest says of the calibration.
        notes: Said so far, beside the plan's own.
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
    """What came of it.

    Attributes:
        engine: The serialised engine.
        manifest: Its manifest.
        layers: The layers; None where nothing could tell them.
        timing_cache: The timing cache after the build; None without one.
        warnings: TensorRT's own.
    """

    engine: bytes
    manifest: EngineManifest
    layers: Optional[List[EngineLayer]]
    timing_cache: Optional[bytes]
    warnings: List[str]
