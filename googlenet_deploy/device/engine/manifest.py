"""``X.engine.json``: records what an engine was made from and where it runs; checked before an engine is loaded."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.engine.layers import EngineLayer
from googlenet_deploy.device.file_kind import recognise
from googlenet_deploy.device.files import PathLike, atomic_path, in_turn, reason, sha256_bytes, sha256_file
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.errors import BadModelError

FORMAT = 1
SUFFIX = ".json"
SEAL = "manifest_sha256"


@dataclass(frozen=True)
class EngineManifest:
    """The manifest of an engine.

    Attributes:
        engine_sha256: Hash of the engine file.
        engine_bytes: Its size.
        backend: "tensorrt" or "tensorrt-rtx".
        tensorrt_version: Version that built it, as reported by the library.
        compute_capabilities: GPUs that it is for, ``["8.7"]``.
        gpu: Name of the GPU that it was built on; "" if it was built ahead of time.
        dialect: "weakly typed" or "strongly typed".
        precision: Smallest type that was allowed.
        flags: Precision flags.
        options: All build options.
        inputs: Name, dtype and shape of each input; open dimensions are names or None.
        outputs: The same for each output.
        batch: (smallest, usual, largest); None if the model's batch is fixed.
        layers: The inspector's layers; empty if no inspector could run.
        layers_note: Why there are no layers.
        precision_shares: Share of convolutions and of multiply-adds by type; empty without layers.
        device_memory_bytes: Memory of one execution context; None if the engine could not be loaded.
        timing_cache_sha256: Hash of the timing cache that was used; "" without one.
        calibration: Source and hash of the INT8 scales; empty without calibration.
        build_seconds: How long the build took.
        notes: Notes from the build.
        source: Name and SHA-256 of the ONNX model, its opset and its metadata.
        rebuild: The command that builds it again.
        dla: Core, number of layers on it, and the layers that run on the GPU; empty if everything runs on the GPU.
        layers_from: Source of the layers: "engine inspector", or "program" for the program text in a TensorRT-RTX
            engine that was built ahead of time; "" without layers.
        format: Version of this format.
    """

    engine_sha256: str
    engine_bytes: int
    backend: str
    tensorrt_version: str
    compute_capabilities: Tuple[str, ...]
    gpu: str
    dialect: str
    precision: str
    flags: Tuple[str, ...]
    options: Dict[str, Any]
    inputs: Tuple[Dict[str, Any], ...]
    outputs: Tuple[Dict[str, Any], ...]
    batch: Optional[Tuple[int, int, int]]
    layers: Tuple[Dict[str, Any], ...]
    layers_note: str
    precision_shares: Dict[str, Any]
    device_memory_bytes: Optional[int]
    timing_cache_sha256: str
    calibration: Dict[str, Any]
    build_seconds: float
    notes: Tuple[str, ...]
    source: Dict[str, Any]
    rebuild: str
    dla: Dict[str, Any] = field(default_factory=dict)
    layers_from: str = ""
    format: int = field(default=FORMAT)

    def to_dict(self) -> Dict[str, Any]:
        """For JSON: keys in the order of the attributes, followed by a hash of all of them."""
        values = asdict(self)
        return {**values, SEAL: _seal(values)}

    def to_json(self) -> str:
        """Indented JSON of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def metadata(self) -> Dict[str, str]:
        """The ONNX model's metadata: preprocessing, class names, architecture, source hash."""
        return dict(self.source.get("metadata", {}))

    @property
    def model_type(self) -> str:
        """The model's type for a strongly typed engine, where every layer keeps it; "" if TensorRT chose the types."""
        return self.precision if self.dialect == "strongly typed" else ""


def manifest_path(engine: PathLike) -> Path:
    """The manifest of ``x.engine`` is ``x.engine.json``."""
    return Path(f"{engine}{SUFFIX}")


def write_engine(path: PathLike, engine: bytes, manifest: EngineManifest) -> None:
    """Writes an engine and its manifest atomically; if either cannot be written, neither is.

    A run that is killed between the two renames can leave a new manifest with an old engine; their hashes then differ,
    which `load_manifest` reports.

    Raises:
        OutputError: They cannot be written; existing files are left unchanged.
    """
    with in_turn(Path(path).parent), atomic_path(path) as temporary:
        temporary.write_bytes(engine)
        with atomic_path(manifest_path(path)) as beside:
            beside.write_text(manifest.to_json(), encoding="utf-8")


def read_manifest(engine: PathLike) -> EngineManifest:
    """Reads the manifest of an engine without checking the engine.

    Raises:
        BadModelError: It is missing, damaged, altered, or of a later version of this tool.
    """
    path = manifest_path(engine)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        _check_format(path, values)
        if values.pop(SEAL, None) != _seal(values):
            raise BadModelError(path, "was altered: its own hash differs", _REBUILD)
        _check_nested(values)
        return decode(EngineManifest, values, "manifest")
    except FileNotFoundError as error:
        raise _without_manifest(engine, path) from error
    except OSError as error:
        raise BadModelError(path, f"the engine's manifest cannot be read: {reason(error)}", _REBUILD) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadModelError(path, f"the engine's manifest is damaged: {error}", _REBUILD) from error


def _without_manifest(engine: PathLike, path: Path) -> BadModelError:
    if not Path(engine).exists():
        return BadModelError(engine, "the engine and its manifest cannot be read: no such file or directory", _REBUILD)
    kind, remedy = recognise(engine)
    if kind and "engine" not in kind:
        return BadModelError(engine, f"is not an engine but {kind}", remedy)
    return BadModelError(
        engine,
        f"the engine's manifest cannot be read: no such file or directory ({path.name}), so neither its TensorRT nor "
        "its GPU is known",
        "an engine runs only on the GPU model and TensorRT that built it: build it here (googlenet-deploy build "
        "MODEL.onnx), or run one that trtexec built here with --no-manifest",
    )


def _check_format(path: Path, values: Any) -> None:  # noqa: ANN401 - from JSON
    if not isinstance(values, dict):
        raise TypeError("it is not a JSON object")
    if values.get("format") != FORMAT:
        raise BadModelError(path, f"has format {values.get('format')}; this version reads format {FORMAT}", _REBUILD)


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: Tuple[Any, ...]


@dataclass(frozen=True)
class _Dla:
    core: int
    layers: int
    gpu_layers: Tuple[str, ...]


_NESTED: Dict[str, Any] = {
    "inputs": Tuple[_Tensor, ...],
    "outputs": Tuple[_Tensor, ...],
    "layers": Tuple[EngineLayer, ...],
    "precision_shares": Dict[str, Dict[str, float]],
}


def _check_nested(values: Dict[str, Any]) -> None:
    """Checks the types of the JSON values that readers rely on: the hash is not secret, so anybody can compute one.

    Raises:
        ValueError: A value is missing or of the wrong type; the message names its place.
    """
    for name, kind in _NESTED.items():
        decode(kind, values.get(name), f"manifest.{name}")
    if values.get("dla"):
        decode(_Dla, values["dla"], "manifest.dla")
    source = values.get("source")
    if isinstance(source, dict):
        decode(Dict[str, str], source.get("metadata", {}), "manifest.source.metadata")
    sizes = [size for name in ("inputs", "outputs") for value in values[name] for size in value["shape"]]
    if not all(size is None or (isinstance(size, (int, str)) and not isinstance(size, bool)) for size in sizes):
        raise ValueError("manifest: a shape contains something else than sizes and names")


def _seal(values: Dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(values, sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii"))


_REBUILD = "build the engine again: googlenet-deploy build MODEL.onnx --output MODEL.engine"


def load_manifest(engine: PathLike) -> EngineManifest:
    """Reads the manifest and checks the engine file against its hash.

    Raises:
        BadModelError: Either is missing or damaged, or the engine was truncated, altered or replaced.
    """
    path = Path(engine)
    manifest = read_manifest(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}", manifest.rebuild) from error
    if size != manifest.engine_bytes:
        raise BadModelError(
            path,
            f"has {size} bytes, its manifest states {manifest.engine_bytes}: cut short, or another",
            manifest.rebuild,
        )
    if sha256_file(path) != manifest.engine_sha256:
        raise BadModelError(
            path, "is not the file that its manifest was written for: the hash differs", manifest.rebuild
        )
    return manifest


def mismatches(
    manifest: EngineManifest, backend: str, version: str, capability: Optional[Tuple[int, int]]
) -> List[str]:
    """Why an engine does not run here; empty if it should.

    Args:
        manifest: The engine's manifest.
        backend: "tensorrt" or "tensorrt-rtx".
        version: The installed library's version, as it reports it.
        capability: This GPU's compute capability; None if unknown.
    """
    found = []
    if manifest.backend != backend:
        found.append(f"it is for {manifest.backend}, here is {backend}")
    elif not _same_release(manifest, version):
        found.append(f"it was built by {backend} {manifest.tensorrt_version}, here is {version}")
    if capability is not None and not _runs_on(manifest, capability):
        found.append(
            f"it is for compute capability {', '.join(manifest.compute_capabilities)}, "
            f"here is {capability[0]}.{capability[1]}"
        )
    return found


def check_fit(
    engine: PathLike, manifest: EngineManifest, backend: str, version: str, capability: Optional[Tuple[int, int]]
) -> None:
    """Rejects an engine that does not run here; see `mismatches`.

    Raises:
        BadModelError: It does not; the message lists every mismatch, the remedy is the command that rebuilds it.
    """
    found = mismatches(manifest, backend, version, capability)
    if found:
        raise BadModelError(engine, f"does not run here: {'; '.join(found)}", f"rebuild it here: {manifest.rebuild}")


def _same_release(manifest: EngineManifest, version: str) -> bool:
    ours, theirs = version.split("."), manifest.tensorrt_version.split(".")
    if manifest.options.get("version_compatible"):
        # Forward compatible only, within a major version.
        with suppress(ValueError):
            return ours[0] == theirs[0] and [int(part) for part in ours[:2]] >= [int(part) for part in theirs[:2]]
    return ours[:3] == theirs[:3]


def _runs_on(manifest: EngineManifest, capability: Tuple[int, int]) -> bool:
    text = f"{capability[0]}.{capability[1]}"
    if text in manifest.compute_capabilities:
        return True
    return manifest.options.get("hardware_compatible") == "ampere+" and capability >= (8, 0)
