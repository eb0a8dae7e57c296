"""How near one model's outputs are to another's on the same images: finer than the difference of two accuracies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.predictions import is_probability, softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = 1e-12


@dataclass
class Agreement:
    """Sums over images; feed batches to `add`.

    Attributes:
        images: How many.
        equal: On how many the best class is the same.
        divergence: Sum of the Kullback-Leibler divergences KL(reference || model) of the probabilities, in nats.
        signal: Sum of squares of the reference's scores.
        noise: Sum of squares of the differences.
    """

    images: int = 0
    equal: int = 0
    divergence: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Adds a batch of class scores, float32 (N, classes) each: logits, or probabilities on both sides."""
        self.images += len(reference)
        self.equal += int((reference.argmax(axis=1) == scores.argmax(axis=1)).sum())
        p, q = _probabilities(reference), _probabilities(scores)
        self.divergence += float((p * (np.log(p + TINY) - np.log(q + TINY))).sum())
        self.signal += float((reference.astype(np.float64) ** 2).sum())
        self.noise += float(((reference.astype(np.float64) - scores) ** 2).sum())

    @property
    def mean_divergence(self) -> float:
        """Mean Kullback-Leibler divergence per image, in nats."""
        return max(0.0, self.divergence / self.images)  # rounding may leave a little below nothing

    @property
    def sqnr(self) -> float:
        """Signal to quantisation noise ratio of the scores, in dB; infinite where they are equal."""
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf


def _probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    values = scores if is_probability(scores) else softmax(scores)
    return values.astype(np.float64)
