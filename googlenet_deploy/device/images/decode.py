"""Decodes images of all kinds into 8-bit RGB or grey, or explains why one cannot be used.

Special cases: EXIF rotation is applied, and an unreadable EXIF block is ignored; of an animation the first frame is
used; 16-bit samples keep their upper 8 bits; 32-bit and floating-point samples are scaled by the range that they fill
(0..1, 0..255 or 0..65535), which is logged once; CMYK, palettes and others are converted by Pillow; transparent pixels
keep the colour stored for them, as in the loaders that the networks were trained with.
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
from typing import Callable, Dict, Optional, Union

from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.formats import HEAD, is_heic, name_unknown
from googlenet_deploy.device.images.metadata import strip_jpeg, strip_png, strip_webp
from googlenet_deploy.device.images.samples import has_32_bits, to_eight_bits
from googlenet_deploy.errors import BadImageError

# Twice a 40-megapixel camera's images. A few kilobytes of PNG can decompress to gigabytes, so the size in the header
# is checked before anything is decompressed.
MAX_PIXELS = 89_478_485

# Pillow's warnings do not name the file. Unusable images are reported by the errors below, and the MAX_PIXELS check
# replaces its decompression bomb warning.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# The exceptions that Pillow's decoders raise for invalid files.
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
_STRIP: Dict[bytes, Callable[[bytes], bytes]] = {b"\x89PNG": strip_png, b"\xff\xd8": strip_jpeg, b"RIFF": strip_webp}


def load_image(
    source: Union[str, Path, bytes], *, name: str = "", mode: str = "RGB", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes one image completely.

    Args:
        source: A file, or the content of one.
        name: Its name in error messages; if empty, the file's path.
        mode: "RGB", or "L" for grey.
        max_pixels: Largest width x height that is decoded.

    Raises:
        BadImageError: The file is missing, empty, truncated, too large or not an image.
    """
    shown = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        return _decode(source, shown, mode, max_pixels)
    except BadImageError:
        pixels_only = _without_metadata(source)
        if pixels_only is None:
            raise
    return _decode(pixels_only, shown, mode, max_pixels)


def _decode(source: Union[str, Path, bytes], shown: str, mode: str, max_pixels: int) -> Image.Image:
    with _open(source, shown, max_pixels) as opened:
        if opened.width * opened.height > max_pixels:
            size = f"{opened.width} x {opened.height}"
            raise BadImageError(shown, f"is {size} pixels, more than the limit of {max_pixels}")
        if opened.format == "TIFF":
            _silence_libtiff()
        try:
            opened.load()
            wide = has_32_bits(opened)
            image = _upright(opened)
            if image.mode.startswith("I") or image.mode == "F":
                image = to_eight_bits(image, shown, wide=wide)
            return _to_mode(image, mode)
        except Image.DecompressionBombError as error:
            raise BadImageError(shown, f"is larger than {max_pixels} pixels") from error
        except MemoryError as error:
            raise BadImageError(shown, "does not fit in memory") from error
        except _DAMAGED as error:
            raise BadImageError(shown, f"is damaged or truncated: {error}") from error


def _open(source: Union[str, Path, bytes], shown: str, max_pixels: int) -> Image.Image:
    def attempt() -> Image.Image:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)

    try:
        try:
            return attempt()
        except UnidentifiedImageError:
            if not (is_heic(_head(source)) and _register_heif()):
                raise
            return attempt()
    except UnidentifiedImageError as error:
        raise BadImageError(shown, name_unknown(_head(source))) from error
    except Image.DecompressionBombError as error:
        raise BadImageError(shown, f"is larger than {max_pixels} pixels") from error
    except OSError as error:  # errors of the operating system have a number, Pillow's do not
        what = "is damaged" if error.errno is None else "cannot be read"
        raise BadImageError(shown, f"{what}: {reason(error)}") from error
    except _DAMAGED as error:
        raise BadImageError(shown, f"is damaged: {error}") from error


def _head(source: Union[str, Path, bytes]) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    with Path(source).open("rb") as stream:
        return stream.read(HEAD)


@lru_cache(maxsize=1)
def _register_heif() -> bool:
    """Registers pillow-heif, if installed, so that Pillow reads HEIC."""
    try:
        import pillow_heif  # noqa: PLC0415 - optional
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _upright(image: Image.Image) -> Image.Image:
    """Rotates the image according to its EXIF block; leaves it unchanged if that block cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image


def _without_metadata(source: Union[str, Path, bytes]) -> Optional[bytes]:
    """The file without its text and EXIF blocks, on which Pillow can fail; None if there are none to remove."""
    try:
        head = _head(source)
        strip = next((strip for magic, strip in _STRIP.items() if head.startswith(magic)), None)
        if strip is None:
            return None
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError:
        return None
    stripped = strip(data)
    return stripped if len(stripped) < len(data) else None


@lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Keeps libtiff from writing to stderr, unless it is linked such that it cannot be reached."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)
