"""The models for `tune`: files, folders, unpacked bundles."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, Iterable, List, Sequence, Tuple

from googlenet_deploy.device.bundle.golden import GOLDEN, read_golden
from googlenet_deploy.device.bundle.manifest import DEVICE_FOLDER, MANIFEST, SUMS, verify_folder
from googlenet_deploy.device.engine.manifest import manifest_path, read_manifest
from googlenet_deploy.device.files import PathLike, reason, sha256_file
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.onnx_model.header import model_sha256, read_model
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.runner.select import ENGINE_SUFFIXES, runs_engine
from googlenet_deploy.device.tune.tuned_file import LeftOut, TunableModel
from googlenet_deploy.errors import BadModelError, InputError, UsageError

# Where a folder contains models: directly, or in the folders of an unpacked bundle.
_FOLDERS = ("", "models", DEVICE_FOLDER)
_SUFFIXES = (".onnx", *ENGINE_SUFFIXES)
# Backends tried for ONNX models by default, with the packages that must be installed.
_USUAL_BACKENDS = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
INT8 = "int8"
NAME = "tuned.json"


@dataclass(frozen=True)
class FoundModel:
    """A model's file with its metadata.

    Attributes:
        file: The file.
        model: Its entry in ``tuned.json``.
        engine: Whether it is an engine.
        backends: The backends to try.
    """

    file: Path
    model: TunableModel
    engine: bool
    backends: Tuple[str, ...]


def find_models(
    places: Sequence[PathLike], backends: Sequence[str], *, checked: bool = True
) -> Tuple[List[FoundModel], List[LeftOut]]:
    """Finds the models at the places, each once, and those that are left out.

    Args:
        places: Files and folders; of a folder the files beside each other, in ``models`` and in ``on-device``. The
            files of an unpacked bundle are checked against its manifest first.
        backends: For ONNX models; empty for the usual backends that are installed.
        checked: Whether engines need their manifests.

    Raises:
        InputError: A place does not exist, or a folder contains no model.
        BadModelError: A file that was named cannot be read.
        BadBundleError: A bundle was altered.
    """
    found: List[FoundModel] = []
    left_out: List[LeftOut] = []
    installed = tuple(name for name, package in _USUAL_BACKENDS.items() if find_spec(package))
    chosen = tuple(backends) or installed or tuple(_USUAL_BACKENDS)[:1]  # whose error then explains how to install it
    for place in map(Path, places):
        if not place.is_dir():
            found.append(_read(place, place.name, chosen, checked=checked))
            continue
        for file in _files(place):
            name = file.relative_to(place).as_posix()
            try:
                found.append(_read(file, name, chosen, checked=checked))
            except InputError as error:
                left_out.append(LeftOut(name, error.problem))
    return _different(found, left_out), left_out


def default_output(places: Sequence[PathLike]) -> Path:
    """Where the result is written: into a bundle's ``on-device``, since any other new file would be an alteration."""
    bundles = [place for place in map(Path, places) if _is_bundle(place)]
    return bundles[0] / DEVICE_FOLDER / NAME if bundles else Path(NAME)


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / SUMS).is_file()


def _files(folder: Path) -> List[Path]:
    if _is_bundle(folder):
        verify_folder(folder)
    try:
        places = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
        files = [path for place in places for path in sorted(place.iterdir()) if path.suffix.lower() in _SUFFIXES]
    except OSError as error:
        raise InputError(folder, f"cannot be read: {reason(error)}") from error
    if not files:
        suffixes = ", ".join(_SUFFIXES)
        raise InputError(
            folder, f"contains no model ({suffixes})", "in a bundle, build the engines: ./build.sh --candidates"
        )
    return files


def _read(file: Path, name: str, backends: Tuple[str, ...], *, checked: bool) -> FoundModel:
    if not file.exists():
        raise InputError(file, "no such file or folder")
    if runs_engine(file, "auto"):
        return _read_engine(file, name, checked=checked)
    header = read_model(file).header
    precision = INT8 if header.quantized else {"float16": "fp16", "bfloat16": "bf16"}.get(header.float_type, "fp32")
    source = header.metadata.source_sha256
    return FoundModel(
        file, TunableModel(name, model_sha256(file), _bytes(file), precision, None, source), False, backends
    )


def _read_engine(file: Path, name: str, *, checked: bool) -> FoundModel:
    if not checked and not manifest_path(file).exists():
        return FoundModel(file, TunableModel(name, sha256_file(file), _bytes(file), "?"), True, ("tensorrt",))
    manifest = read_manifest(file)
    metadata = ModelMetadata.from_properties(manifest.metadata, str(file))
    shares: Dict[str, float] = manifest.precision_shares.get("multiply_adds", {})
    model = TunableModel(
        path=name,
        sha256=sha256_file(file),
        bytes=_bytes(file),
        precision=manifest.precision,
        int8_share=shares.get(INT8, 0.0) if shares else None,
        source_sha256=metadata.source_sha256,
        context_bytes=manifest.device_memory_bytes,
    )
    return FoundModel(file, model, True, (manifest.backend,))


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise BadModelError(file, f"cannot be read: {reason(error)}") from error


def _different(found: Iterable[FoundModel], left_out: List[LeftOut]) -> List[FoundModel]:
    """Each content once, under its first name; ambiguous names are prefixed with their folder."""
    kept: Dict[str, FoundModel] = {}
    for entry in found:
        twin = kept.setdefault(entry.model.sha256, entry)
        if twin is not entry and twin.file != entry.file:
            left_out.append(LeftOut(entry.model.path, f"is the same file as {twin.model.path}"))
    names: Dict[str, FoundModel] = {}
    for entry in kept.values():
        twin = names.setdefault(entry.model.path, entry)
        if twin is not entry:
            raise UsageError(
                f"{twin.file} and {entry.file} have the same name, so tuned.json could not tell them apart",
                "pass the folder that contains both, or rename one",
            )
    return list(kept.values())


def golden_images(places: Sequence[PathLike]) -> List[ImageSource]:
    """The golden images of the first place that is an unpacked bundle; empty without one.

    Raises:
        BadBundleError: The bundle's list of them is damaged.
    """
    for place in map(Path, places):
        if _is_bundle(place) and (place / GOLDEN).is_file():
            return [ImageSource(str(place / image.file)) for image in read_golden(place).images]
    return []
