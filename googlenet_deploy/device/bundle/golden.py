"""Golden inputs and outputs: the answers of a bundle's models on the workstation, for comparison on the device.

``golden/golden.json`` lists a few image files with their classes, the preprocessed pixels from the workstation, and for
each model the scores that ONNX Runtime computed there with the tolerance for the device.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Container, List, Optional, Tuple

import numpy as np

from googlenet_deploy.device.bundle.manifest import BundleManifest, read_manifest
from googlenet_deploy.device.decibels import decibels
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.text import counted, one_line
from googlenet_deploy.errors import BadBundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing

GOLDEN = "golden/golden.json"
PIXELS = "golden/pixels.npy"
# Lowest signal-to-difference ratio of the scores, in dB. ONNX Runtime in FP32 stays above 100 between machines; an
# engine may use TF32 (10 bits of mantissa, about 60); FP16 has 11 bits, but TensorRT may also accumulate in FP16; INT8
# kernels round ties and rescale branches differently, and differ from the Q/DQ model about as much as that from FP32.
MIN_SQNR = {"fp32": 45.0, "fp16": 30.0, "int8": 20.0}
# Decoders and resizers differ by one level in some pixels between versions.
PIXEL_TOLERANCE = 1.0


@dataclass(frozen=True)
class GoldenImage:
    """One image: its file in the bundle, the class that every model predicted, and that class's name."""

    file: str
    index: int
    name: str


@dataclass(frozen=True)
class GoldenModel:
    """One model's answers.

    Attributes:
        model: Its file in the bundle.
        precision: "fp32", "fp16" or "int8".
        scores: File of its scores, float32 (images, classes).
        min_sqnr: Lowest signal-to-difference ratio of the scores on the device, in dB.
    """

    model: str
    precision: str
    scores: str
    min_sqnr: float


@dataclass(frozen=True)
class Golden:
    """The reference data of the self-test.

    Attributes:
        images: The images, in the order of the arrays.
        models: The models, the deployed model first.
        engine_min_sqnr: The same limit for the engine that the device builds from the deployed model, in dB.
        pixel_tolerance: Largest mean difference of the preprocessed pixels, in levels of 255.
        made_with: The software that ran the models on the workstation, with versions.
    """

    images: Tuple[GoldenImage, ...]
    models: Tuple[GoldenModel, ...]
    engine_min_sqnr: float
    pixel_tolerance: float
    made_with: str

    def to_text(self) -> str:
        """Indented JSON in a fixed order."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_golden(folder: PathLike, manifest: Optional[BundleManifest] = None) -> Golden:
    """Reads ``golden.json`` of an unpacked bundle.

    Args:
        folder: The unpacked bundle.
        manifest: Its manifest, if it has been read already.

    Raises:
        BadBundleError: It is missing or damaged, or lists a file that the manifest does not.
    """
    path = Path(folder) / GOLDEN
    packed = {item.path for item in (manifest or read_manifest(folder)).files}
    try:
        values = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse_constant)
        return _golden(_Fields(values, "golden.json"), packed)
    except OSError as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise BadBundleError(path, f"is damaged: {what:.200}") from error


class _Fields:
    """A JSON object with typed access to its fields."""

    def __init__(self, values: Any, where: str) -> None:  # noqa: ANN401 - from JSON
        if not isinstance(values, dict):
            raise TypeError(f"{where} is not an object")
        self.values, self.where = values, where

    def get(self, key: str, kind: type) -> Any:  # noqa: ANN401 - of the type `kind`
        value = self.values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise TypeError(f"{key} in {self.where} is no {kind.__name__}")
        return value

    def number(self, key: str) -> float:
        value = float(self.get(key, float))
        if not 0 <= value < math.inf:
            raise ValueError(f"{key} in {self.where} is {value}")
        return value

    def file(self, key: str, packed: Container[str]) -> str:
        """A path in the bundle; nothing outside the bundle is ever opened."""
        name = str(self.get(key, str))
        if name not in packed:
            raise ValueError(f"{key} in {self.where} is {name!r:.80}, which is not a file of the bundle")
        return name

    def objects(self, key: str) -> List[_Fields]:
        entries = self.get(key, list)
        if not entries:
            raise ValueError(f"{key} is empty")
        return [_Fields(entry, key) for entry in entries]


def _golden(fields: _Fields, packed: Container[str]) -> Golden:
    images = [
        GoldenImage(entry.file("file", packed), int(entry.get("index", int)), str(entry.get("name", str)))
        for entry in fields.objects("images")
    ]
    models = [
        GoldenModel(
            entry.file("model", packed),
            str(entry.get("precision", str)),
            entry.file("scores", packed),
            entry.number("min_sqnr"),
        )
        for entry in fields.objects("models")
    ]
    known = {"model", "precision", "scores", "min_sqnr"}
    if any(set(entry.values) - known for entry in fields.objects("models")):
        raise ValueError("models has an unknown entry")
    if any(image.index < 0 for image in images):
        raise ValueError("images has a class below 0")
    return Golden(
        images=tuple(images),
        models=tuple(models),
        engine_min_sqnr=fields.number("engine_min_sqnr"),
        pixel_tolerance=fields.number("pixel_tolerance"),
        made_with=str(fields.get("made_with", str)),
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def read_pixels(folder: PathLike, golden: Golden, spec: Preprocessing) -> NDArray[np.uint8]:
    """The recorded pixels: uint8 (images, height, width, channels).

    Raises:
        BadBundleError: The file is missing, or holds something else.
    """
    array = read_array(folder, PIXELS)
    wanted = (len(golden.images), *spec.pixel_size, len(spec.channels))
    if array.dtype != np.uint8 or array.shape != wanted:
        raise BadBundleError(
            Path(folder) / PIXELS, f"holds {array.dtype} {array.shape} instead of uint8 {wanted}, the golden images"
        )
    return array


def read_scores(folder: PathLike, golden: Golden, model: GoldenModel) -> NDArray[np.float32]:
    """The recorded scores of a model: float32 (images, classes), finite.

    Raises:
        BadBundleError: The file is missing, or holds something else.
    """
    array = read_array(folder, model.scores)
    fits = array.dtype == np.float32 and array.ndim == 2 and len(array) == len(golden.images)
    if not fits or not np.isfinite(array).all():
        raise BadBundleError(
            Path(folder) / model.scores,
            f"holds {array.dtype} {array.shape} instead of a finite float32 score for each class of "
            f"{counted(len(golden.images), 'image')}",
        )
    return array


def read_array(folder: PathLike, name: str) -> NDArray[Any]:
    """Reads a ``.npy`` file of an unpacked bundle; nothing in it is executed.

    Raises:
        BadBundleError: It is missing or not an array.
    """
    path = Path(folder) / name
    try:
        array = np.load(str(path), allow_pickle=False)
    except OSError as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except Exception as error:  # damaged headers raise whatever their text parser raises
        raise BadBundleError(path, f"is not an array: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise BadBundleError(path, "is an archive of arrays instead of one array")
    return array


def sqnr(expected: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    """Power of the expected scores over that of the difference, in dB; infinite if they are equal."""
    signal = float((expected.astype(np.float64) ** 2).sum())
    noise = float(((expected.astype(np.float64) - given) ** 2).sum())
    return decibels(signal, noise)
