"""Decoding images of every kind into 8-bit RGB or grey, or saying clearly why one cannot be used.

What becomes of the odd ones: EXIF rotation is applied; of an animation the first frame is taken; 16-bit samples keep
their upper 8 bits; CMYK, palettes and others are converted by Pillow; transparent pixels keep the colour stored
under them, as the loaders do that the networks were trained with.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import struct
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from googlenet_deploy.device.files import reason
from googlenet_deploy.errors import BadImageError

# Twice what a 40-megapixel camera gives. A few kilobytes of PNG can unpack to gigabytes, so the size that the
# header states is checked before anything is unpacked.
MAX_PIXELS = 89_478_485
SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))

# Pillow's remarks on odd files name no file. What makes an image unusable is reported by the errors below, the size
# that its decompression bomb warning is about by the check of MAX_PIXELS.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# What Pillow's many decoders raise for files that are not as they should be.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    struct.error,
)


def load_image(
    source: Union[str, Path, bytes], *, name: str = "", mode: str = "RGB", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes one image completely.

    Args:
        source: A file, or the content of one.
        name: What to call it in error messages; the file's path where empty.
        mode: "RGB", or "L" for grey.
        max_pixels: Largest width x height that is unpacked.

    Raises:
        BadImageError: The file is missing, empty, truncated, too large or no image.
    """
    shown = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError as error:
        raise BadImageError(shown, _why_unidentified(source)) from error
    except Image.DecompressionBombError as error:
        raise BadImageError(shown, f"is larger than {max_pixels} pixels") from error
    except OSError as error:  # the operating system's have a number, Pillow's own none
        what = "is damaged" if error.errno is None else "cannot be read"
        raise BadImageError(shown, f"{what}: {reason(error)}") from error
    except _DAMAGED as error:
        raise BadImageError(shown, f"is damaged: {error}") from error
    with opened:
        if opened.width * opened.height > max_pixels:
            size = f"{opened.width} x {opened.height}"
            raise BadImageError(shown, f"is {size} pixels, more than the limit of {max_pixels}")
        if opened.format == "TIFF":
            _silence_libtiff()
        try:
            opened.load()
            return _to_mode(ImageOps.exif_transpose(opened), mode)
        except Image.DecompressionBombError as error:
            raise BadImageError(shown, f"is larger than {max_pixels} pixels") from error
        except MemoryError as error:
            raise BadImageError(shown, "does not fit in memory") from error
        except _DAMAGED as error:
            raise BadImageError(shown, f"is damaged or truncated: {error}") from error


def _why_unidentified(source: Union[str, Path, bytes]) -> str:
    empty = not source if isinstance(source, bytes) else Path(source).stat().st_size == 0
    return "is empty" if empty else "is not an image of a known format"


@lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Keeps libtiff from writing to stderr by itself; where it is linked in such that it cannot be reached, it does."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        image = _upper_eight_bits(image)
    elif image.mode == "F":
        raise ValueError("its samples are floating-point numbers of unknown range")
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _upper_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow holds as "I;16" or "I" and would clip at 255, as 8-bit grey."""
    samples = np.asarray(image).astype(np.int64)
    return Image.fromarray(np.clip(samples >> 8, 0, 255).astype(np.uint8))
