"""CIFAR-10 and CIFAR-100, read from their authors' archives without unpacking them.

Both versions are read, as ``.tar.gz``, ``.tar`` or the unpacked folder. The binary version (records of one label
byte, two for CIFAR-100, and 3 x 32 x 32 pixels) needs only NumPy. The python version holds pickles, which are read by
an unpickler that accepts only NumPy's arrays and Python's own containers, so that no code in them runs.

https://www.cs.toronto.edu/~kriz/cifar.html describes both. The test images are used for validation.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.device.files import reason
from googlenet_deploy.errors import InputError, first_line
from googlenet_deploy.training.data.dataset import Sample, TrainingData, require_every_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, CHANNELS = 32, 3
PIXELS = SIDE * SIDE * CHANNELS
CHUNK = 1 << 20
LARGEST_MEMBER = 1 << 30  # far above the 160 MB of CIFAR-100's training images
COMPRESSED = (".tar.gz", ".tgz")
REMEDY = "download the archive again from https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True)
class _Version:
    """One of the four archives.

    Attributes:
        title: Its name.
        train: Files of training images.
        test: The file of test images.
        names: The file of class names.
        label_bytes: Label bytes per binary record; 0 for pickles.
        label_key: Key of a pickle's labels.
        names_key: Key of a pickle's class names.
    """

    title: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int = 0
    label_key: str = ""
    names_key: str = ""


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
VERSIONS = (
    _Version("CIFAR-10", tuple(f"{n}.bin" for n in _BATCHES), "test_batch.bin", "batches.meta.txt", label_bytes=1),
    _Version("CIFAR-10", _BATCHES, "test_batch", "batches.meta", label_key="labels", names_key="label_names"),
    _Version("CIFAR-100", ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2),
    _Version("CIFAR-100", ("train",), "test", "meta", label_key="fine_labels", names_key="fine_label_names"),
)


@dataclass(frozen=True)
class StoredImage:
    """An image in memory that can be read like a Netpbm file.

    Attributes:
        name: Its name in messages.
        pixels: uint8 (3, 32, 32): planes of red, green and blue.
    """

    name: str
    pixels: NDArray[np.uint8]

    def read_bytes(self) -> bytes:
        """The image as a PPM file."""
        header = f"P6 {SIDE} {SIDE} 255\n".encode("ascii")
        return header + np.ascontiguousarray(self.pixels.transpose(1, 2, 0)).tobytes()

    def __str__(self) -> str:
        """The name."""
        return self.name


def is_cifar(place: str) -> bool:
    """Whether a path is one of the archives, or a folder to which one was unpacked."""
    path = Path(place)
    if path.is_dir():
        return any((path / version.names).is_file() and (path / version.test).is_file() for version in VERSIONS)
    name = path.name.lower()
    return name.endswith(COMPRESSED) or (name.endswith(".tar") and "cifar" in name)  # other .tar files are shards


def read_cifar(place: str) -> TrainingData:
    """Reads a data set.

    Args:
        place: The archive, or the folder to which it was unpacked.

    Raises:
        InputError: It cannot be read, is cut short, lacks files, or holds anything but images and labels.
    """
    path = Path(place)
    members = _folder(path) if path.is_dir() else _archive(path)
    version = next((v for v in VERSIONS if v.names in members or v.train[0] in members), None)
    if version is None:
        raise InputError(path, "contains none of the files of CIFAR-10 or CIFAR-100", REMEDY)
    missing = [name for name in (version.names, version.test, *version.train) if name not in members]
    if missing:
        raise InputError(path, f"lacks {missing[0]} of {version.title}: it is cut short or incomplete", REMEDY)
    classes = _class_names(path, version, members[version.names])
    train = [sample for file in version.train for sample in _samples(path, version, file, members[file], len(classes))]
    test = list(_samples(path, version, version.test, members[version.test], len(classes)))
    for samples, part in ((train, "training"), (test, "test")):
        require_every_class(path, classes, samples, f"its {part} images")
    note = f"{version.title}: {len(train)} training and {len(test)} test images of {SIDE}x{SIDE} pixels"
    by_class = sorted(train, key=lambda sample: (sample.label, sample.name))
    return TrainingData(path, classes, tuple(by_class), tuple(test), (note,))


def _folder(path: Path) -> dict[str, bytes]:
    names = {name for version in VERSIONS for name in (version.names, version.test, *version.train)}
    try:
        return {name: (path / name).read_bytes() for name in sorted(names) if (path / name).is_file()}
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error


def _archive(path: Path) -> dict[str, bytes]:
    """The content of the archive's files with known names; nothing is written to disk."""
    names = {name for version in VERSIONS for name in (version.names, version.test, *version.train)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if member.isfile() and name in names:
                    found[name] = _content(archive, member)
            stream: Any = archive.fileobj
            while stream.read(CHUNK):
                pass  # up to the checksum of the whole, which the decompressor then compares
    except Exception as error:  # zlib.error, lzma.LZMAError, EOFError and tarfile.TarError have no common base
        why = reason(error) if isinstance(error, OSError) and error.errno else first_line(error).rstrip(":")
        raise InputError(path, f"is damaged or cut short: {why}", REMEDY) from error
    return found


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST_MEMBER:
        raise ValueError(f"{member.name} has {member.size:,} bytes, which no CIFAR file has")
    stream = archive.extractfile(member)
    content = stream.read() if stream is not None else b""
    if len(content) != member.size:
        raise ValueError(f"{member.name} ends early")
    return content


def _class_names(path: Path, version: _Version, content: bytes) -> tuple[str, ...]:
    if version.label_bytes:
        try:
            names = [line.strip() for line in content.decode("utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InputError(path, f"its {version.names} is not a text of class names", REMEDY) from error
    else:
        names = _texts(_unpickled(path, version.names, content).get(version.names_key))
    if len(names) < 2 or len(set(names)) != len(names):
        raise InputError(path, f"its {version.names} does not name the classes", REMEDY)
    return tuple(names)


def _samples(path: Path, version: _Version, file: str, content: bytes, classes: int) -> Iterator[Sample]:
    pixels, labels = (
        _binary(path, version, file, content) if version.label_bytes else _pickled(path, version, file, content)
    )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(path, f"its {file} has the label {int(labels.max())}, there are {classes} classes", REMEDY)
    for index, label in enumerate(labels.tolist()):
        name = f"{file}/{index:05d}"
        yield Sample(StoredImage(f"{path}:{name}", pixels[index]), label, name)


def _binary(path: Path, version: _Version, file: str, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = version.label_bytes + PIXELS
    if not content or len(content) % record:
        raise InputError(
            path, f"its {file} has {len(content):,} bytes, not whole records of {record}: it is cut short", REMEDY
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    # Of CIFAR-100's two labels the first is the coarse one.
    labels = rows[:, version.label_bytes - 1].astype(np.int64)
    return rows[:, version.label_bytes :].reshape(-1, CHANNELS, SIDE, SIDE), labels


def _pickled(path: Path, version: _Version, file: str, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    values = _unpickled(path, file, content)
    data, labels = values.get("data"), values.get(version.label_key)
    whole = isinstance(labels, list) and all(type(label) is int and 0 <= label < 1000 for label in labels)
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != PIXELS
        or not whole
    ):
        raise InputError(
            path, f"its {file} does not contain images of 3x32x32 bytes under 'data' and {version.label_key!r}"
        )
    assert isinstance(labels, list)
    if len(data) != len(labels) or not labels:
        raise InputError(path, f"its {file} has {len(data)} images and {len(labels)} labels", REMEDY)
    return data.reshape(-1, CHANNELS, SIDE, SIDE), np.array(labels, np.int64)


def _texts(values: object) -> list[str]:
    if not isinstance(values, list):
        return []
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


class _ArrayUnpickler(pickle.Unpickler):
    """Accepts NumPy's arrays and Python's containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - what the pickle asks for
        """Returns a class that a pickle may refer to.

        Raises:
            UnpicklingError: The pickle refers to anything else.
        """
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _number_type
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _encoded
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which would run code")


def _empty_array(_kind: object, _shape: object, _type: object) -> NDArray[np.uint8]:
    return np.empty(0, np.uint8)


def _number_type(name: object, *_flags: object) -> np.dtype[Any]:
    text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    if text not in ("u1", "i8", "i4"):
        raise pickle.UnpicklingError(f"it contains an array of {text}")
    return np.dtype(text)


def _encoded(text: str, _encoding: object = "") -> bytes:
    return text.encode("latin-1")


def _unpickled(path: Path, file: str, content: bytes) -> dict[str, Any]:
    """A pickled dictionary with text for keys.

    Raises:
        InputError: It is damaged, or refers to anything but arrays.
    """
    try:
        values = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise InputError(path, f"its {file} is refused: {error}") from error
    except Exception as error:  # on damaged bytes an unpickler may raise anything
        raise InputError(path, f"its {file} is damaged or cut short: {error}", REMEDY) from error
    if not isinstance(values, dict):
        raise InputError(path, f"its {file} is not a dictionary", REMEDY)
    return {
        key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): value for key, value in values.items()
    }
