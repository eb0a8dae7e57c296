"""Makes the golden inputs and outputs that the device's self-test compares with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from googlenet_deploy.device.bundle.golden import (
    GOLDEN,
    MIN_SQNR,
    PIXEL_TOLERANCE,
    PIXELS,
    Golden,
    GoldenImage,
    GoldenModel,
)
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.predictions import class_scores
from googlenet_deploy.device.preprocess import crop_pixels, normalize
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import BadImageError, InputError, UsageError, VerificationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.packaging.content import BundleContent
    from googlenet_deploy.packaging.models import BundleModel, BundleModels

COUNT = 6
CANDIDATES = 32
PIXELS_HELD = 2**24
MOST_FRAMES = 3  # raw frames are megabytes each
LARGEST_IMAGE = 2 * 2**20  # bytes of a packed file


@dataclass(frozen=True)
class _Candidate:
    source: ImageSource
    data: bytes
    pixels: NDArray[np.uint8]


def add_golden(
    content: BundleContent, models: BundleModels, images: Sequence[ImageSource], precision: str, count: int = COUNT
) -> int:
    """Adds the golden images, the workstation's prepared inputs, and every model's scores.

    Of up to 32 images spread over `images`, those that all models classify equally are used, the clearest predictions
    first: a near tie between two classes could go either way on another device.

    Args:
        content: The bundle content they are added to.
        models: The models.
        images: Candidates, of which at most `count` are used.
        precision: The engine's precision, which determines the tolerance of its scores.
        count: Number of golden images; at most three for frames, whose pixels take megabytes each.

    Returns:
        The number of golden images.

    Raises:
        InputError: No image can be used.
        VerificationError: The models do not agree on a single image.
    """
    candidates = _candidates(images, models)
    pixels = np.stack([candidate.pixels for candidate in candidates])
    scores = [_run(model, pixels) for model in models]
    if models.main.preprocessing.frame is not None:
        count = min(count, MOST_FRAMES)
    chosen = _clearest([values for values, _ in scores], count)
    golden_images = []
    for number, index in enumerate(chosen):
        candidate = candidates[index]
        suffix = PurePath(candidate.source.name).suffix.lower()
        file = f"golden/images/{number}{suffix if suffix.isascii() and len(suffix) <= 5 else ''}"
        content.add_bytes(file, candidate.data, "golden image")
        best = int(scores[0][0][index].argmax())
        names = models.class_names
        golden_images.append(GoldenImage(file, best, names[best] if best < len(names) else str(best)))
    content.add_bytes(PIXELS, _npy(pixels[chosen]), "golden pixels")
    golden_models = [
        _add_scores(content, model, values[chosen]) for model, (values, _) in zip(models, scores, strict=True)
    ]
    _add_trtexec_files(content, models.main, pixels[chosen], scores[0][0][chosen])
    made_with = f"{scores[0][1]}, Pillow {PIL.__version__}"
    golden = Golden(tuple(golden_images), tuple(golden_models), MIN_SQNR[precision], PIXEL_TOLERANCE, made_with)
    content.add_text(GOLDEN, golden.to_text(), "golden answers")
    return len(chosen)


def _candidate_count(spec: Preprocessing) -> int:
    """Number of candidate images; fewer for frames, since all their pixels are held in memory."""
    height, width = spec.pixel_size
    return max(4, min(CANDIDATES, PIXELS_HELD // (height * width)))


def _candidates(images: Sequence[ImageSource], models: BundleModels) -> list[_Candidate]:
    spec = models.main.preprocessing
    count = min(_candidate_count(spec), len(images))
    found, problem = [], "there are none"
    for number in range(count):
        source = images[number * len(images) // count]
        try:
            data = source.data if source.data is not None else Path(source.name).read_bytes()
            if len(data) > LARGEST_IMAGE:
                problem = f"{source.name} is larger than {LARGEST_IMAGE >> 20} MiB"
                continue
            image = load_image(data, name=source.name, mode="L" if spec.channels == "L" else "RGB")
            found.append(_Candidate(source, data, crop_pixels(image, spec)))
        except (BadImageError, UsageError) as error:
            problem = error.message
        except OSError as error:
            problem = f"{source.name}: {error.strerror}"
    if not found:
        raise InputError("images", f"none can be packed as golden input: {problem}", "pass photographs with --images")
    return found


def _run(model: BundleModel, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], str]:
    with open_runner(model.path, "onnxruntime", as_is=True) as runner:
        batch = np.stack([normalize(image, model.preprocessing) for image in pixels])
        return class_scores(run_any_batch(runner, batch), runner.path), runner.backend


def _clearest(scores: Sequence[NDArray[np.float32]], count: int) -> list[int]:
    """Indices of images on which all models agree: the clearest of each class first, then the clearest of the others.

    Clear means a large margin of the best class over the second.
    """
    best = np.stack([values.argmax(axis=1) for values in scores])
    agreeing = np.flatnonzero((best == best[0]).all(axis=0))
    if not len(agreeing):
        raise VerificationError(
            "the models assign different classes to every golden image", "evaluate the quantised model: `evaluate`"
        )
    two = np.sort(scores[0][agreeing], axis=1)[:, -2:]
    order = agreeing[np.argsort(two[:, 0] - two[:, 1], kind="stable")].tolist()
    firsts = list({int(best[0][index]): index for index in reversed(order)}.values())
    ranked = sorted(order, key=lambda index: (index not in firsts, order.index(index)))
    return sorted(ranked[:count])


def _add_scores(content: BundleContent, model: BundleModel, scores: NDArray[np.float32]) -> GoldenModel:
    file = f"golden/{PurePath(model.name).stem}.npy"
    content.add_bytes(file, _npy(scores), "golden scores")
    return GoldenModel(f"models/{model.name}", model.precision, file, MIN_SQNR[model.precision])


def _add_trtexec_files(
    content: BundleContent, model: BundleModel, pixels: NDArray[np.uint8], scores: NDArray[np.float32]
) -> None:
    """Adds inputs and expected outputs for trtexec, on devices whose Python cannot run the self-test."""
    for number, (image, values) in enumerate(zip(pixels, scores, strict=True)):
        prepared = normalize(image, model.preprocessing)
        content.add_bytes(f"golden/trtexec/{number}.bin", prepared.tobytes(), "golden input for trtexec")
        lines = "".join(f"{float(value)!r}\n" for value in values)
        content.add_text(f"golden/trtexec/{number}.txt", lines, "golden scores for trtexec")


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()
