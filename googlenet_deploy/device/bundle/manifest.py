"""A bundle's manifest: the hashes of its files, and what they were made from.

``manifest.json`` is UTF-8 JSON in one fixed form: two spaces of indentation, keys in the order of `BundleManifest`, a
newline at the end. Its last key, ``sha256``, is the SHA-256 of the same text without that key, so that a change of
the manifest is detected like a change of any other file. Files have POSIX paths relative to the bundle's folder.
``SHA256SUMS`` beside it lists the same hashes and the manifest's in the format of ``sha256sum``, for devices without
Python.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

from googlenet_deploy.device.files import PathLike, reason, sha256_file
from googlenet_deploy.device.text import one_line
from googlenet_deploy.errors import BadBundleError, InputError

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
FORMAT = "googlenet-deploy bundle"
VERSION = 1
# The folder for what the device itself writes into the unpacked bundle: engines, timing caches, results.
DEVICE_FOLDER = "on-device"
KINDS = ("jetson", "triton", "deepstream", "jetson-inference")
SHOWN = 3
_REMEDY = "copy the bundle again, or make it again with `googlenet-deploy bundle`"


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle.

    Attributes:
        path: POSIX path relative to the bundle's folder.
        bytes: Size.
        sha256: Hash of the content, as hexadecimal digits.
        role: Its purpose: "model", "engine script", ...
        executable: Whether it is executable.
    """

    path: str
    bytes: int
    sha256: str
    role: str
    executable: bool = False


@dataclass(frozen=True)
class BundleManifest:
    """The contents of a bundle.

    Attributes:
        kind: One of `KINDS`.
        target: Where it is to run, such as "orin-nano"; "" for any.
        precision: Precision of its main model: "fp32", "fp16" or "int8".
        tool_version: Version of googlenet-deploy that wrote it.
        made_from: Hashes and names of what went into it.
        files: Every file but the manifest and ``SHA256SUMS``, sorted by path.
    """

    kind: str
    target: str
    precision: str
    tool_version: str
    made_from: Mapping[str, str] = field(default_factory=dict)
    files: Tuple[BundleFile, ...] = ()

    def to_text(self) -> str:
        """The text of the manifest's file; equal manifests have equal bytes."""
        values = self._values()
        values["sha256"] = hashlib.sha256(_text(self._values()).encode("utf-8")).hexdigest()
        return _text(values)

    def file(self, path: str) -> BundleFile:
        """Looks up a file by its path.

        Raises:
            BadBundleError: The bundle has no such file.
        """
        for item in self.files:
            if item.path == path:
                return item
        raise BadBundleError(path, "is not in the bundle", _REMEDY)

    def _values(self) -> Dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "target": self.target,
            "precision": self.precision,
            "tool_version": self.tool_version,
            "made_from": dict(sorted(self.made_from.items())),
            "files": [asdict(item) for item in self.files],
        }


def parse_manifest(text: str, path: PathLike) -> BundleManifest:
    """Reads a manifest.

    Raises:
        BadBundleError: It is not a manifest, or of a newer version, damaged or altered.
    """
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadBundleError(path, f"is not a manifest of a bundle: {one_line(error)}", _REMEDY) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BadBundleError(
            path, "is not a manifest of a bundle", "pass a bundle that `googlenet-deploy bundle` wrote"
        )
    version = values.get("version")
    if version != VERSION or type(version) is not int:
        newer = isinstance(version, int) and version > VERSION
        remedy = "update googlenet-deploy, or make the bundle with this version" if newer else _REMEDY
        what = "a newer version" if newer else "another version"
        raise BadBundleError(path, f"was written by {what} (format {version!r:.20}, this one reads {VERSION})", remedy)
    try:
        manifest = _from_values(values)
        unaltered = manifest.to_text() == text
    except UnicodeEncodeError as error:
        raise BadBundleError(path, "is damaged: a text in it is not Unicode", _REMEDY) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadBundleError(path, f"is damaged: {what:.200}", _REMEDY) from error
    if not unaltered:
        raise BadBundleError(path, "was altered: it is not what its own hash was taken of", _REMEDY)
    return manifest


def read_manifest(folder: PathLike) -> BundleManifest:
    """Reads the manifest of an unpacked bundle without checking the other files; see `parse_manifest`."""
    path = Path(folder) / MANIFEST
    try:
        return parse_manifest(path.read_bytes().decode("utf-8"), path)
    except OSError as error:
        remedy = "pass the folder that the bundle was unpacked into"
        raise BadBundleError(path, f"cannot be read: {reason(error)}", remedy) from error
    except UnicodeDecodeError as error:
        raise BadBundleError(path, "is damaged: it is not UTF-8 text", _REMEDY) from error


def verify_folder(folder: PathLike) -> BundleManifest:
    """Checks every file of an unpacked bundle against the manifest.

    Files that the device wrote into `DEVICE_FOLDER` are not part of the bundle and are ignored.

    Raises:
        BadBundleError: The manifest is damaged or altered, or files are missing, altered, or do not belong there.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    refuse_problems(root, problems_of(manifest, _present(root), lambda path: sha256_file(root / path)))
    return manifest


def problems_of(manifest: BundleManifest, present: Mapping[str, int], digest: Callable[[str], str]) -> List[str]:
    """Lists the problems of the files that exist; empty if there are none.

    Args:
        manifest: The files that should exist.
        present: Size of every existing file by path, manifest and ``SHA256SUMS`` included.
        digest: Returns the SHA-256 of an existing file.
    """
    found = []
    sums = sums_text(manifest).encode("utf-8")
    listed = BundleFile(SUMS, len(sums), hashlib.sha256(sums).hexdigest(), "hashes")
    expected = {item.path: item for item in (*manifest.files, listed)}
    for path, item in expected.items():
        if path not in present:
            found.append(f"{path} is missing")
        elif present[path] != item.bytes:
            found.append(f"{path} was altered ({present[path]} bytes instead of {item.bytes})")
        elif digest(path) != item.sha256:
            found.append(f"{path} was altered")
    extra = sorted(set(present) - set(expected) - {MANIFEST})
    return found + [f"{path} does not belong to the bundle" for path in extra]


def sums_text(manifest: BundleManifest) -> str:
    """``SHA256SUMS`` of a bundle, for ``sha256sum --check``: sorted by path, the manifest first."""
    digest = hashlib.sha256(manifest.to_text().encode("utf-8")).hexdigest()
    lines = [f"{digest}  {MANIFEST}\n", *(f"{item.sha256}  {item.path}\n" for item in manifest.files)]
    return "".join(lines)


def refuse_problems(place: PathLike, problems: List[str]) -> None:
    """Rejects a bundle with problems; the message lists the first few.

    Raises:
        BadBundleError: There are problems.
    """
    if problems:
        rest = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise BadBundleError(place, "; ".join(problems[:SHOWN]) + rest, _REMEDY)


def _present(root: Path) -> Dict[str, int]:
    found = {}
    try:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if name.split("/")[0] == DEVICE_FOLDER or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink() or not path.is_file():
                raise BadBundleError(path, "is not a plain file, which a bundle consists of", _REMEDY)
            found[name] = path.stat().st_size
    except OSError as error:
        raise InputError(root, f"cannot be read: {reason(error)}") from error
    return found


def _from_values(values: Mapping[str, Any]) -> BundleManifest:
    files = tuple(_file(entry) for entry in _typed(values, "files", list))
    paths = {item.path for item in files}
    if len(paths) != len(files) or paths & {MANIFEST, SUMS}:
        raise ValueError("a file is named twice")
    if _typed(values, "kind", str) not in KINDS:
        raise ValueError(f"{values['kind']!r} is not a kind of bundle")
    made_from = _typed(values, "made_from", dict)
    return BundleManifest(
        kind=values["kind"],
        target=_typed(values, "target", str),
        precision=_typed(values, "precision", str),
        tool_version=_typed(values, "tool_version", str),
        made_from={key: _typed(made_from, key, str) for key in made_from},
        files=files,
    )


def _file(entry: Any) -> BundleFile:  # noqa: ANN401 - from JSON
    if not isinstance(entry, dict):
        raise TypeError("a file is not an object")
    digest = _typed(entry, "sha256", str)
    if not re.fullmatch("[0-9a-f]{64}", digest) or _typed(entry, "bytes", int) < 0:
        raise ValueError("a file has an impossible size or hash")
    return BundleFile(
        path=_safe_path(entry["path"]),
        bytes=entry["bytes"],
        sha256=digest,
        role=_typed(entry, "role", str),
        executable=_typed(entry, "executable", bool),
    )


def _typed(values: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401 - from JSON
    """Returns a value of exactly this type; True is not a number."""
    if type(values[key]) is not kind:
        raise TypeError(f"{key} is no {kind.__name__}")
    return values[key]


def _refuse_constant(name: str) -> None:
    """JSON has no NaN and no Infinity, but Python's reader accepts them."""
    raise ValueError(f"{name} is not a number")


def _safe_path(path: Any) -> str:  # noqa: ANN401 - from JSON
    """A path that stays inside the bundle's folder.

    Raises:
        ValueError: It does not, or is not in the normalised form that bundles use.
    """
    if not is_safe_path(path):
        raise ValueError(f"{path!r} is not a path inside the bundle")
    return str(path)


def is_safe_path(path: Any) -> bool:  # noqa: ANN401 - whatever an archive or a manifest says
    """Whether a path is relative, contains no ``.`` or ``..``, and means the same on every system."""
    if not isinstance(path, str) or not path or len(path) > 1024 or re.search(r"[\x00-\x1f\x7f\\:]", path):
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
