"""Takes an image classifier from PyTorch to an NVIDIA Jetson, and proves every step.

The names below are imported when they are first used; each needs the optional extra of its step. Those of a device
(`Classifier`, `benchmark`, `build`, `serve`, `tune` and their options) need NumPy, Pillow and what runs the model.
Notes go to the logger "googlenet_deploy" where a function is given no `report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from googlenet_deploy.analysis.roofline import Estimate, estimate
    from googlenet_deploy.calibration.calibrate import CalibrationResult
    from googlenet_deploy.calibration.calibrate_model import calibrate
    from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions
    from googlenet_deploy.deployment.config import DeployConfig
    from googlenet_deploy.deployment.pipeline import Deployment, deploy
    from googlenet_deploy.device.benchmark.benchmark import benchmark
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions
    from googlenet_deploy.device.builder.build import BuiltEngine, build
    from googlenet_deploy.device.builder.options import BuildOptions
    from googlenet_deploy.device.classifier import Classifier
    from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
    from googlenet_deploy.device.runner.select import GpuOptions, RunnerOptions
    from googlenet_deploy.device.serve.options import ServeOptions
    from googlenet_deploy.device.serve.run import serve
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.stream.answers import Answer, RankedClass
    from googlenet_deploy.device.stream.options import FrameOptions
    from googlenet_deploy.device.tune.options import TuneOptions
    from googlenet_deploy.device.tune.tune import tune
    from googlenet_deploy.device.tune.tuned_file import Tuned
    from googlenet_deploy.export.export_model import export
    from googlenet_deploy.export.options import ExportOptions
    from googlenet_deploy.export.pipeline import ExportResult
    from googlenet_deploy.model.weights import load_weights
    from googlenet_deploy.quantization.evaluate_model import EvaluationReport, evaluate
    from googlenet_deploy.quantization.options import BudgetOptions, CheckOptions
    from googlenet_deploy.quantization.quantize import QuantizationResult
    from googlenet_deploy.quantization.quantize_model import quantize

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "BenchmarkOptions",
    "BudgetOptions",
    "BuildOptions",
    "BuiltEngine",
    "CacheOptions",
    "CalibrationOptions",
    "CalibrationResult",
    "CheckOptions",
    "Classifier",
    "DeployConfig",
    "Deployment",
    "Estimate",
    "EvaluationReport",
    "ExportOptions",
    "ExportResult",
    "FrameOptions",
    "GpuOptions",
    "Preprocessing",
    "PreprocessingOptions",
    "QuantizationResult",
    "RankedClass",
    "RunnerOptions",
    "ServeOptions",
    "TuneOptions",
    "Tuned",
    "__version__",
    "benchmark",
    "build",
    "calibrate",
    "deploy",
    "estimate",
    "evaluate",
    "export",
    "load_weights",
    "quantize",
    "serve",
    "tune",
]

_HOMES = {
    "Answer": "device.stream.answers",
    "BenchmarkOptions": "device.benchmark.options",
    "BudgetOptions": "quantization.options",
    "BuildOptions": "device.builder.options",
    "BuiltEngine": "device.builder.build",
    "CacheOptions": "calibration.options",
    "CalibrationOptions": "calibration.options",
    "CalibrationResult": "calibration.calibrate",
    "CheckOptions": "quantization.options",
    "Classifier": "device.classifier",
    "DeployConfig": "deployment.config",
    "Deployment": "deployment.pipeline",
    "Estimate": "analysis.roofline",
    "EvaluationReport": "quantization.evaluate_model",
    "ExportOptions": "export.options",
    "ExportResult": "export.pipeline",
    "FrameOptions": "device.stream.options",
    "GpuOptions": "device.runner.select",
    "Preprocessing": "device.specification",
    "PreprocessingOptions": "device.preprocessing_options",
    "QuantizationResult": "quantization.quantize",
    "RankedClass": "device.stream.answers",
    "RunnerOptions": "device.runner.select",
    "ServeOptions": "device.serve.options",
    "TuneOptions": "device.tune.options",
    "Tuned": "device.tune.tuned_file",
    "benchmark": "device.benchmark.benchmark",
    "build": "device.builder.build",
    "calibrate": "calibration.calibrate_model",
    "deploy": "deployment.pipeline",
    "estimate": "analysis.roofline",
    "evaluate": "quantization.evaluate_model",
    "export": "export",
    "load_weights": "model.weights",
    "quantize": "quantization.quantize_model",
    "serve": "device.serve.run",
    "tune": "device.tune.tune",
}


def __getattr__(name: str) -> object:
    """Imports a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(f"{__name__}."):
            raise
        why = "is not part of googlenet-device.pyz: install googlenet-deploy on a workstation"
        raise AttributeError(f"{__name__}.{name} {why}") from error
    return home if _HOMES[name] == name else getattr(home, name)  # the package `export` can be called


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
