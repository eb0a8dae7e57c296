"""The images that a benchmark runs on: real images, or synthetic images generated from a seed."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageFilter

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.pipeline import Skipped, decode, prepare, stacked
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.preprocess import frame_pixels
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError, GoogLeNetDeployError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The usual size of a photograph in ImageNet.
SYNTHETIC_SIZE = (500, 375)
SYNTHETIC_COUNT = 8
JPEG_QUALITY = 90
_BLUR = 4.0
# Raw frames are large: 6 MB each at 1080p.
FRAMES = 8
_BYTES_HELD = 2**27


class BenchmarkInputs(NamedTuple):
    """Encoded images in memory, so that disk access is not measured.

    Attributes:
        images: Their files' contents.
        kind: "real" or "synthetic".
        seed: Seed of synthetic images; -1 for real images.
        skipped: Images that cannot be used, and why.
        sha256: Hash of all contents, in order.
        frame: (height, width) of raw frames; None if the images are encoded.
    """

    images: Tuple[ImageSource, ...]
    kind: str
    seed: int
    skipped: Tuple[Skipped, ...]
    sha256: str
    frame: Optional[Tuple[int, int]] = None

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "count": len(self.images),
            "seed": self.seed if self.kind == "synthetic" else None,
            "frame": None if self.frame is None else list(self.frame),
            "bytes": sum(map(len, map(_content, self.images))),
            "sha256": self.sha256,
            "skipped": [item._asdict() for item in self.skipped],
        }


def real_inputs(sources: Sequence[ImageSource], spec: Preprocessing, backend: str, limit: int) -> BenchmarkInputs:
    """Reads the first `limit` usable images.

    Raises:
        GoogLeNetDeployError: There are no images, or none can be used.
    """
    if not sources:
        raise GoogLeNetDeployError("--images: no images found there")
    usable: List[ImageSource] = []
    skipped: List[Skipped] = []
    for source in sources:
        if len(usable) == limit:
            break
        try:
            data = source.data if source.data is not None else Path(source.name).read_bytes()
            prepare(ImageSource(source.name, data), spec, backend)
            usable.append(ImageSource(source.name, data))
        except BadImageError as error:
            skipped.append(Skipped(source.name, error.problem))
        except UsageError as error:
            skipped.append(Skipped(source.name, error.message))
        except OSError as error:
            skipped.append(Skipped(source.name, f"cannot be read: {reason(error)}"))
    if not usable:
        raise GoogLeNetDeployError(
            f"no image can be used ({len(skipped)} skipped)",
            f"the first: {skipped[0].name}: {skipped[0].reason}",
        )
    return BenchmarkInputs(tuple(usable), "real", -1, tuple(skipped), _digest(usable))


def synthetic_inputs(seed: int, spec: Preprocessing) -> BenchmarkInputs:
    """Makes JPEG files of blurred noise, as large as photographs and about as expensive to decode.

    Args:
        seed: The same seed produces the same pixels, and with the same Pillow version the same files.
        spec: The preprocessing; determines the mode, and the size if images are not resized.
    """
    generator = np.random.default_rng(seed)
    width, height = (max(SYNTHETIC_SIZE[0], spec.crop[1]), max(SYNTHETIC_SIZE[1], spec.crop[0]))
    images = []
    for index in range(SYNTHETIC_COUNT):
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_BLUR))
        # The blur leaves little contrast; with the contrast stretched, the file is as large as a photograph's.
        stretched = blurred.point([max(0, min(255, (value - 128) * 8 + 128)) for value in range(256)] * 3)
        data = io.BytesIO()
        stretched.convert("L" if spec.channels == "L" else "RGB").save(data, "JPEG", quality=JPEG_QUALITY)
        images.append(ImageSource(f"synthetic {index}", data.getvalue()))
    return BenchmarkInputs(tuple(images), "synthetic", seed, (), _digest(images))


def make_batches(
    inputs: BenchmarkInputs, spec: Preprocessing, backend: str, size: int
) -> Tuple[Tuple[Tuple[ImageSource, ...], NDArray[np.generic]], ...]:
    """Batches of `size` images with their prepared arrays; images are repeated if there are too few.

    At most four batches and every image once, so that large batches do not exhaust memory.
    """
    prepared = {source.name: prepare(source, spec, backend) for source in inputs.images}
    count = max(1, min(4, len(inputs.images) // size))
    batches = []
    for index in range(count):
        chosen = tuple(inputs.images[(index * size + offset) % len(inputs.images)] for offset in range(size))
        batches.append((chosen, stacked([prepared[source.name] for source in chosen])))
    return tuple(batches)


def frame_inputs(inputs: BenchmarkInputs, spec: Preprocessing, frame: Tuple[int, int], backend: str) -> BenchmarkInputs:
    """Decodes the images to raw frames in memory, all resized to one size such that the network sees the same content.

    Args:
        inputs: Encoded images.
        spec: The network's preprocessing; a network that takes frames needs frames of its own size.
        frame: (height, width) of the frames.
        backend: Library that resizes images.

    Raises:
        UsageError: The network takes frames of another size, or an image cannot be converted to such a frame.
    """
    if spec.frame not in (None, frame):
        raise UsageError(f"--frame: the model accepts {spec.describe_frame()}", "leave --frame out")
    wanted = spec.with_frame_input(frame)
    kept = inputs.images[: max(1, min(FRAMES, _BYTES_HELD // (3 * frame[0] * frame[1])))]
    frames = []
    for source in kept:
        pixels = frame_pixels(decode(source, spec), wanted, backend)
        frames.append(ImageSource(source.name, pixels=np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels))
    return inputs._replace(images=tuple(frames), sha256=_digest(frames), frame=frame)


def _content(image: ImageSource) -> bytes:
    return image.data or (b"" if image.pixels is None else image.pixels.tobytes())


def _digest(images: Sequence[ImageSource]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(_content(image))
    return digest.hexdigest()
