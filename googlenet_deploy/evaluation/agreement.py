"""Agreement of two models' outputs on the same images: more sensitive than the difference of two accuracies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.decibels import decibels
from googlenet_deploy.device.predictions import is_probability, softmax
from googlenet_deploy.evaluation.statistics import Z_95, Proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = 1e-12
CENTRED = "log-probability"  # the mean over the classes is subtracted per image, since a softmax ignores it


@dataclass
class Agreement:
    """Sums over images; pass batches to `add`.

    Attributes:
        images: Number of images.
        equal: Number of images with the same best class.
        divergence: Sum of the Kullback-Leibler divergences KL(reference || model) of the probabilities, in nats.
        signal: Sum of squares of the reference's scores.
        noise: Sum of squares of the differences.
        moments: Sums over images of the squares of divergence, signal and noise, and of signal times noise, for the
            intervals.
        of_probabilities: Whether the first batch held probabilities. Then signal and noise use log-probabilities minus
            each image's mean, which equal the logits minus their mean: probabilities near 0, however wrong, hardly
            count in a sum of squares.
    """

    images: int = 0
    equal: int = 0
    divergence: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    of_probabilities: bool = False

    def add(self, reference: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Adds a batch of class scores, float32 (N, classes) each: logits, or probabilities on both sides."""
        if not self.images:
            self.of_probabilities = is_probability(reference) or is_probability(scores)
        self.images += len(reference)
        self.equal += int((reference.argmax(axis=1) == scores.argmax(axis=1)).sum())
        p, q = _probabilities(reference), _probabilities(scores)
        divergence = (p * (np.log(p + TINY) - np.log(q + TINY))).sum(axis=1)
        if self.of_probabilities:
            wanted, given = _centred_logarithm(p), _centred_logarithm(q)
        else:
            wanted, given = reference.astype(np.float64), scores.astype(np.float64)
        signal = (wanted**2).sum(axis=1)
        noise = ((wanted - given) ** 2).sum(axis=1)
        self.divergence += float(divergence.sum())
        self.signal += float(signal.sum())
        self.noise += float(noise.sum())
        products = (divergence * divergence, signal * signal, noise * noise, signal * noise)
        self.moments += [float(product.sum()) for product in products]

    @property
    def mean_divergence(self) -> float:
        """Mean Kullback-Leibler divergence per image, in nats."""
        return max(0.0, self.divergence / self.images)  # rounding may leave a value slightly below 0

    @property
    def divergence_interval(self) -> tuple[float, float]:
        """95 % interval of the mean divergence over images like these, in nats."""
        mean = self.mean_divergence
        if self.images < 2:
            return 0.0, math.inf
        variance = max(0.0, float(self.moments[0]) / self.images - mean * mean) / (self.images - 1)
        return max(0.0, mean - Z_95 * math.sqrt(variance)), mean + Z_95 * math.sqrt(variance)

    @property
    def proportion(self) -> Proportion:
        """The share of images on which the best class is the same, with its interval."""
        return Proportion(self.equal, self.images)

    @property
    def sqnr(self) -> float:
        """Signal-to-quantisation-noise ratio of the quantity in `measured`, in dB; infinite without any difference."""
        return decibels(self.signal, self.noise)

    @property
    def measured(self) -> str:
        """The quantity that signal and noise refer to."""
        return CENTRED if self.of_probabilities else "logit"

    @property
    def sqnr_interval(self) -> tuple[float, float]:
        """95 % interval of `sqnr` over images like these, in dB: the delta method for the logarithm of a ratio of sums.

        Cochran 1977, "Sampling Techniques", section 6.3: the variance of log(S / N) is that of the sum over images of
        s / S - n / N, whose mean is zero.
        """
        if self.images < 2 or self.noise == 0.0 or self.signal == 0.0:
            return -math.inf, math.inf
        _, signals, noises, products = self.moments
        squares = signals / self.signal**2 + noises / self.noise**2 - 2 * products / (self.signal * self.noise)
        deviation = math.sqrt(max(0.0, float(squares)) * self.images / (self.images - 1))
        spread = Z_95 * deviation * 10.0 / math.log(10.0)
        return self.sqnr - spread, self.sqnr + spread


def _probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    values = scores if is_probability(scores) else softmax(scores)
    return values.astype(np.float64)


def _centred_logarithm(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithm: NDArray[np.float64] = np.log(probabilities + TINY)
    centred: NDArray[np.float64] = logarithm - logarithm.mean(axis=1, keepdims=True)
    return centred
