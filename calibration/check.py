"""The quantised model against the one that it was made from, on images that calibration did not see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.calibration.session import TensorSession
from googlenet_deploy.errors import VerificationError

if TYPE_CHECKING:
    import onnx

    from googlenet_deploy.calibration.batches import Batches

# A sound INT8 model agrees on more than 95 of 100 images; a broken one on few. Below this the result is refused.
LEAST_AGREEMENT = 0.5


class Agreement(NamedTuple):
    """How near two models are.

    Attributes:
        images: Images compared.
        agreement: Share of them with the same best class, 0..1.
        decibels: Logits' signal-to-quantisation-noise ratio, 10 log10(sum of squares / sum of squared differences).
        largest_difference: Of any logit.
    """

    images: int
    agreement: float
    decibels: float
    largest_difference: float


def compare(reference: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches) -> Agreement | None:
    """Runs both models; None where there are no images.

    The first output counts: logits or probabilities, (N, classes).

    Raises:
        BadModelError: One of them cannot be run.
        VerificationError: The quantised model yields NaN or infinite values.
    """
    first, second = TensorSession(reference), TensorSession(quantised)
    images = same = 0
    signal = noise = largest = 0.0
    for batch in batches:
        wanted, got = (session.run(batch.array)[session.outputs[0]] for session in (first, second))
        if not np.isfinite(got).all():
            raise VerificationError("the quantised model yields NaN or infinite values")
        difference = got.astype(np.float64) - wanted
        images += len(wanted)
        same += int((wanted.argmax(axis=-1) == got.argmax(axis=-1)).sum())
        signal += float(np.square(wanted, dtype=np.float64).sum())
        noise += float(np.square(difference).sum())
        largest = max(largest, float(np.abs(difference).max()))
    if not images:
        return None
    decibels = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf
    return Agreement(images, same / images, decibels, largest)
