"""Golden inputs and outputs: what a bundle's models answered on the workstation, to be held against the device.

``golden/golden.json`` names a few image files with their classes, the pixels that the workstation made of them, and per
model the scores that ONNX Runtime gave there with the distance that is tolerated on the device.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.text import one_line
from googlenet_deploy.errors import BadBundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN = "golden/golden.json"
PIXELS = "golden/pixels.npy"
# Signal over difference that the scores must keep, in dB. ONNX Runtime in FP32 stays above 100 between machines; an
# engine may use TF32 (10 bits of mantissa, about 60); FP16 has 11 bits but sums in it where TensorRT chooses to; INT8
# kernels round ties and rescale branches in their own ways, and lie about as far from the Q/DQ model as that from FP32.
MIN_SQNR = {"fp32": 45.0, "fp16": 30.0, "int8": 20.0}
# Decoders and resizers differ by a level here and there between versions.
PIXEL_TOLERANCE = 1.0


@dataclass(frozen=True)
class GoldenImage:
    """One image: its file in the bundle, the class that every model gave it, and that class's name."""

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
        min_sqnr: What their signal over difference must be on the device, in dB.
    """

    model: str
    precision: str
    scores: str
    min_sqnr: float


@dataclass(frozen=True)
class Golden:
    """Everything that the self-test compares with.

    Attributes:
        images: The images, in the order of the arrays.
        models: The models, the one that is deployed first.
        engine_min_sqnr: What the scores of the engine that the device builds from it must keep, in dB.
        pixel_tolerance: Largest mean difference of the prepared pixels, in levels of 255.
        made_with: What ran the models on the workstation, with versions.
    """

    images: Tuple[GoldenImage, ...]
    models: Tuple[GoldenModel, ...]
    engine_min_sqnr: float
    pixel_tolerance: float
    made_with: str

    def to_text(self) -> str:
        """Indented JSON in a fixed order."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_golden(folder: PathLike) -> Golden:
    """Reads ``golden.json`` of an unpacked bundle.

    Raises:
        BadBundleError: It is missing or damaged.
    """
    path = Path(folder) / GOLDEN
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Golden(
            images=tuple(GoldenImage(**entry) for entry in values["images"]),
            models=tuple(GoldenModel(**entry) for entry in values["models"]),
            engine_min_sqnr=float(values["engine_min_sqnr"]),
            pixel_tolerance=float(values["pixel_tolerance"]),
            made_with=str(values["made_with"]),
        )
    except OSError as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadBundleError(path, f"is damaged: {error}") from error


def read_array(folder: PathLike, name: str) -> NDArray[Any]:
    """Reads a ``.npy`` file of an unpacked bundle; nothing in it is executed.

    Raises:
        BadBundleError: It is missing or no array.
    """
    path = Path(folder) / name
    try:
        array: NDArray[Any] = np.load(str(path), allow_pickle=False)
    except OSError as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except Exception as error:  # damaged headers raise what the parser of their text raises
        raise BadBundleError(path, f"is no array: {one_line(error)}") from error
    return array


def sqnr(expected: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    """Power of the expected scores over that of the difference, in dB; infinite where they are equal."""
    signal = float((expected.astype(np.float64) ** 2).sum())
    noise = float(((expected.astype(np.float64) - given) ** 2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
