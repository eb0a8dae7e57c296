"""The bundle for a Jetson: everything that the device needs to build, test and run the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.calibration.table import check_matches, load_table
from googlenet_deploy.calibration.tensorrt_cache import cache_from_table
from googlenet_deploy.device.bundle.golden import MIN_SQNR
from googlenet_deploy.device.bundle.selftest import PREPROCESSING
from googlenet_deploy.device.files import PathLike, sha256_file
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.targets.jetpack import full_tensorrt_version
from googlenet_deploy.device.targets.target import Target, with_caches
from googlenet_deploy.errors import UsageError
from googlenet_deploy.graph.files import load_classifier, load_model
from googlenet_deploy.packaging.content import BundleContent, BundleResult, write_bundle
from googlenet_deploy.packaging.device_scripts import ScriptValues, build_arguments, build_script, self_test_script
from googlenet_deploy.packaging.golden import COUNT as GOLDEN_COUNT
from googlenet_deploy.packaging.golden import add_golden
from googlenet_deploy.packaging.jetson_readme import readme
from googlenet_deploy.packaging.models import BundleModels, read_models

if TYPE_CHECKING:
    from googlenet_deploy.device.images.sources import ImageSource

CLASS_NAMES = "class_names.txt"
PYZ = "googlenet-device.pyz"
DEFAULT_BATCH = (1, 4, 16)


@dataclass(frozen=True)
class JetsonRequest:
    """The inputs of a Jetson bundle.

    Attributes:
        target: The module or JetPack.
        precision: "fp32", "fp16" or "int8".
        models: ONNX files by precision.
        images: Candidates for the golden images.
        pyz: The content of googlenet-device.pyz.
        table: Calibration table of the FP32 model, or None.
        batch: (smallest, usual, largest) batch of the engine, if the model's batch is dynamic.
        golden_count: Maximum number of golden images.
        made_from: Further entries for the manifest.
    """

    target: Target
    precision: str
    models: dict[str, Path]
    images: Sequence[ImageSource]
    pyz: bytes
    table: Path | None = None
    batch: tuple[int, int, int] = DEFAULT_BATCH
    golden_count: int = GOLDEN_COUNT
    made_from: dict[str, str] = field(default_factory=dict)


def write_jetson(output: PathLike, request: JetsonRequest) -> BundleResult:
    """Writes the bundle; an archive if `output` ends in ``.zip``.

    Raises:
        UsageError: The target is TensorRT-RTX, or does not support the request.
        BadModelError: A model does not fit, or is too new for the target.
        BadTableError: The table belongs to another model.
        InputError: No image can be used.
        OutputError: The bundle cannot be written.
    """
    check_target(request.target, request.precision)
    models = read_models(request.models, request.precision)
    content, notes = BundleContent(), list[str]()
    for model in models:
        content.add_model(f"models/{model.name}", model.path)
    _add_description(content, models)
    content.add_bytes(PYZ, request.pyz, "program", executable=True)
    caches = _add_calibration(content, request, notes)
    count = add_golden(content, models, request.images, request.precision, request.golden_count)
    _add_scripts(content, request, models, count)
    manifest_sources = {**models.made_from(), **request.made_from}
    if request.table is not None:
        manifest_sources["table_sha256"] = sha256_file(request.table)
    content.add_text("README.txt", readme(request.target, request.precision, models, caches, count), "instructions")
    manifest = content.manifest("jetson", request.target.name, request.precision, manifest_sources)
    write_bundle(output, content, manifest)
    return BundleResult(manifest, tuple(notes))


def check_target(target: Target, precision: str) -> None:
    """Rejects a target that is not a Jetson, or does not support the precision.

    Raises:
        UsageError: The target is rejected.
    """
    if target.rtx:
        raise UsageError("TensorRT-RTX is not for Jetsons", "name a module, such as orin-nano, or a JetPack")
    if precision == "int8" and target.has_int8 is False:
        raise UsageError(f"{target.title} has no INT8 instructions", "pass --precision fp16")


def _add_description(content: BundleContent, models: BundleModels) -> None:
    content.add_text(PREPROCESSING, models.main.preprocessing.to_json() + "\n", "preprocessing")
    if models.class_names:
        content.add_text(CLASS_NAMES, "".join(f"{name}\n" for name in models.class_names), "class names")


def _add_calibration(content: BundleContent, request: JetsonRequest, notes: list[str]) -> list[str]:
    """Adds the table, and a calibration cache for each TensorRT of the target that reads one; returns their paths."""
    if request.table is None:
        return []
    table = load_table(request.table)
    source = request.models.get("fp32")
    if source is None:
        raise UsageError("a calibration table belongs to the FP32 model", "pass --fp32 too, or leave --table out")
    model = load_classifier(source)
    check_matches(table, request.table, model_sha256(source), table.preprocessing)
    content.add_file("calibration/table.json", request.table, "calibration table")
    if request.precision != "int8":
        return []
    paths = []
    for version in with_caches(request.target):
        cache, remarks = cache_from_table(table, model, full_tensorrt_version(version))
        path = f"calibration/tensorrt-{version[0]}.{version[1]}.cache"
        content.add_text(path, cache.to_text(), "calibration cache")
        paths.append(path)
        notes += [remark for remark in remarks if remark not in notes]
    return paths


def _add_scripts(content: BundleContent, request: JetsonRequest, models: BundleModels, count: int) -> None:
    main = models.main
    share = int8_share(main.path) if main.precision == "int8" else None
    values = ScriptValues(
        target=request.target,
        precision=request.precision,
        model=f"models/{main.name}",
        header=main.header,
        batch=request.batch,
        int8_share=share,
        min_sqnr=MIN_SQNR[request.precision],
        golden_count=count,
        candidates=_candidates(request, models),
    )
    content.add_text("build.sh", build_script(values), "script", executable=True)
    content.add_text("self-test.sh", self_test_script(values), "script", executable=True)


def _candidates(request: JetsonRequest, models: BundleModels) -> dict[str, list[str]]:
    """What ``build.sh --candidates`` builds: an engine of each model that the target supports, by name.

    FP16 without its own model is built from the FP32 model, which is not possible with a TensorRT that has only
    strongly typed builds; ``build.sh`` reports that and continues.
    """
    found = {}
    able = [model for model in models if model.precision != "int8" or request.target.has_int8 is not False]
    for model in able:
        found[model.precision] = build_arguments(f"models/{model.name}", model.header, model.precision, request.batch)
    fp32 = next((model for model in models if model.precision == "fp32"), None)
    if fp32 is not None and "fp16" not in found:
        found["fp16"] = build_arguments(f"models/{fp32.name}", fp32.header, "fp16", request.batch)
    return found


def int8_share(path: PathLike) -> float:
    """Share of a Q/DQ model's multiply-adds whose inputs are quantised, 0..1."""
    model = load_model(path)
    priced = CostModel(model, path=path)
    costs = [cost for cost in priced.nodes() if cost.multiply_adds]
    total = sum(cost.multiply_adds for cost in costs)
    return sum(cost.multiply_adds for cost in costs if cost.quantized) / total if total else 0.0
