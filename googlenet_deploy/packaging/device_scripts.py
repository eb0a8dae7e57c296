"""The shell scripts of a Jetson bundle, for building and testing without Python: JetPack 4.6 has only Python 3.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from googlenet_deploy import __version__
from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import Site, plan_build
from googlenet_deploy.device.builder.trtexec import trtexec_command
from googlenet_deploy.device.bundle.selftest import ENGINE
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.targets.target import Target

NEW_ENGINE = "on-device/new.engine"  # trtexec's output; renamed when complete


@dataclass(frozen=True)
class ScriptValues:
    """The values that the scripts depend on.

    Attributes:
        target: The module or JetPack.
        precision: The engine's precision.
        model: The ONNX file in the bundle from which it is built.
        header: The header of that file.
        batch: (smallest, usual, largest) batch of a model with a dynamic batch dimension.
        int8_share: Share of the multiply-adds that the model computes in INT8; None without INT8.
        min_sqnr: Minimum SQNR of the engine's scores, in dB.
        golden_count: Number of golden images.
        candidates: Arguments of ``googlenet-device.pyz build`` except for the output, by the engine's name.
    """

    target: Target
    precision: str
    model: str
    header: OnnxHeader
    batch: tuple[int, int, int]
    int8_share: float | None
    min_sqnr: float
    golden_count: int
    candidates: Mapping[str, Sequence[str]] = field(default_factory=dict)


def build_script(values: ScriptValues) -> str:
    """``build.sh``."""
    versions = values.target.tensorrt
    return _fill(
        "build.sh",
        VERSION=__version__,
        TITLE=values.target.title,
        PRECISION=values.precision,
        ENGINE=ENGINE,
        PYTHON_ARGUMENTS=" ".join(python_arguments(values)),
        CANDIDATES="\n".join(f"    candidate {name} {' '.join(words)}" for name, words in values.candidates.items()),
        RECIPES="\n".join(_recipe(values, version) for version in versions),
        TENSORRT=", ".join(".".join(map(str, version)) for version in versions),
    )


def self_test_script(values: ScriptValues) -> str:
    """``self-test.sh``."""
    header = values.header
    rest = "x".join(str(size) for size in header.inputs[0].shape[1:])
    shapes = f"--shapes={header.inputs[0].name}:1x{rest}" if header.dynamic_batch else ""
    return _fill(
        "self-test.sh",
        ENGINE=ENGINE,
        MIN_SQNR=f"{values.min_sqnr:g}",
        INPUT=header.inputs[0].name,
        OUTPUT=header.outputs[0].name,
        SHAPES=shapes,
        NUMBERS=" ".join(map(str, range(values.golden_count))),
    )


def python_arguments(values: ScriptValues) -> list[str]:
    """Arguments of ``googlenet-device.pyz build`` except for the output."""
    words = build_arguments(values.model, values.header, values.precision, values.batch)
    if values.int8_share is not None:
        # TensorRT may keep the odd layer in FP16 if that is faster; below this something else is wrong.
        words += ["--require", f"int8={max(0.0, values.int8_share - 0.1):.2f}"]
    return words


def build_arguments(model: str, header: OnnxHeader, precision: str, batch: tuple[int, int, int]) -> list[str]:
    """Arguments of ``googlenet-device.pyz build`` for a model, except for the output and gates.

    Args:
        model: Its file in the bundle.
        header: Its header.
        precision: The engine's precision; TensorRT converts an FP32 model to FP16 by itself.
        batch: (smallest, usual, largest), if the model's batch is dynamic.
    """
    words = [model]
    if precision == "fp16" and header.float_type == "float32":
        words += ["--precision", "fp16"]
    if header.dynamic_batch:
        words += ["--batch", ",".join(map(str, batch))]
    return words


def _recipe(values: ScriptValues, version: tuple[int, int]) -> str:
    """One branch of the ``case`` over TensorRT's versions: sets the positional parameters."""
    name = ".".join(map(str, version))
    module = values.target.module
    site = Site(f"TensorRT {name}", version, False, module.compute_capability if module else None)
    precision = "fp16" if values.precision == "fp16" and values.header.float_type == "float32" else None
    options = BuildOptions(precision=precision, batch=values.batch if values.header.dynamic_batch else None)
    plan = plan_build(values.header, values.model, options, site)
    command = trtexec_command(values.header, values.model, NEW_ENGINE, options, plan, site)
    return f"        {name} | {name}.*) set -- {command.partition(' ')[2]} ;;"


def _fill(template: str, **values: str) -> str:
    text = (files("googlenet_deploy.packaging") / "templates" / template).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    assert "@" not in text.replace('"$@"', ""), template
    return text
