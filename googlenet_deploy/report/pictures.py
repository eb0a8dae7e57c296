"""Small pictures embedded in the report."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.errors import BadImageError

THUMBNAIL = (240, 180)
SMALL_THUMBNAIL = (128, 96)
QUALITY = 72


def thumbnail(path: Path, size: tuple[int, int] = THUMBNAIL) -> str:
    """A small JPEG as a data URI; a grey pixel if the image no longer exists."""
    try:
        image = load_image(path)
    except BadImageError:
        image = Image.new("RGB", (1, 1), (128, 128, 128))
    image.thumbnail(size)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
