"""How much time JPEG's draft mode would save, and how often it changes the predicted class.

libjpeg can decode at 1/2, 1/4 or 1/8 of the size. The sample images are too small for it, so they are enlarged six
times and coded as a camera would. What both ways decode is preprocessed alike and classified by the FP32 network.

    python benchmarks/draft_decoding.py [--images 50]
"""

from __future__ import annotations

import io
import statistics
import sys
import time

import numpy as np
from harness import IMAGES, bvlc_onnx, options, table
from PIL import Image

from googlenet_deploy.device.preprocess import crop_pixels, normalize
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.specification import BVLC

ENLARGED, QUALITY = 6, 92
SHORT_SIDES = (256, 512)  # minimum decoded size: the resize's target, and twice that


def camera_jpeg(path: str) -> bytes:
    """An image of several megapixels."""
    image = Image.open(path).convert("RGB")
    large = image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    large.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def prepared(content: bytes, short_side: int) -> tuple[np.ndarray, float]:
    """Pixels, and CPU seconds; `short_side` 0 decodes at full size."""
    start = time.process_time()
    image = Image.open(io.BytesIO(content))
    if short_side:
        image.draft("RGB", (short_side, short_side))
    pixels = crop_pixels(image.convert("RGB"), BVLC)
    return pixels, time.process_time() - start


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=50, help="how many images (default 50)")
    arguments = parser.parse_args()
    paths = [str(path) for path in sorted(IMAGES.glob("*.jpg"))]
    contents = [camera_jpeg(path) for path in paths[:: max(1, len(paths) // arguments.images)][: arguments.images]]
    rows = []
    with OnnxRuntimeRunner(bvlc_onnx()) as runner:
        for short_side in SHORT_SIDES:
            times: list[tuple[float, float]] = []
            levels, same = [], 0
            for content in contents:
                (whole, slow), (draft, fast) = prepared(content, 0), prepared(content, short_side)
                times.append((slow, fast))
                scores = [runner.run(normalize(pixels, BVLC)[np.newaxis])["logits"][0] for pixels in (whole, draft)]
                noise = float(np.square(scores[0] - scores[1]).sum())
                levels.append(10 * np.log10(float(np.square(scores[0]).sum()) / max(noise, 1e-30)))
                same += int(scores[0].argmax() == scores[1].argmax())
            slow, fast = (statistics.median(part) * 1e3 for part in zip(*times, strict=True))
            quality = f"{statistics.median(levels):.1f}", f"{min(levels):.1f}"
            rows.append((str(short_side), f"{slow:.1f}", f"{fast:.1f}", f"{same} of {len(contents)}", *quality))
    table(("short side decoded", "whole ms", "draft ms", "same class", "median SQNR dB", "worst"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
