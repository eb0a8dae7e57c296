"""Codes of a layer's weights that reproduce its output from its quantised input.

The objective is AdaRound's (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization",
arXiv:2004.10568, section 3.3): the mean squared difference of the layer's outputs. AdaRound relaxes the codes and
descends on samples. But for one layer the objective is a quadratic form of its weights: the covariance of its inputs
is sufficient, and codes can be searched for directly, for all output channels at once, in a second per layer.

First each weight is rounded to the nearest while those not yet rounded compensate for the errors of those that are, in
the order of the inputs' variance: Frantar et al. 2022, "GPTQ" (arXiv:2210.17323), section 3. Then coordinate descent
sets each code to its best value with all others fixed, until none changes.

The mean is left to the bias, so covariances are centred. `damping` makes each weight's own rounding error count too,
which keeps inputs that are rarely active on the images from being misused to compensate for the rest. A weight of
exactly zero keeps code 0: it was pruned, and a 2:4 pattern must survive quantisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.quantization.weights import LARGEST_CODE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.quantization.refine.im2col import LayerRows

SWEEPS = 5
# How many codes coordinate descent may move a weight away from its code after the first pass.
REACH = 2
SMALLEST_DAMPING = 1e-6
# Codes are changed block by block: only the block's own gradient is kept up to date; the rest takes one product.
BLOCK = 64


@dataclass(frozen=True)
class Moments:
    """A layer's statistics for the objective; inputs are in the order of their variance, largest first.

    Attributes:
        order: (K,), the inputs.
        inputs: float32 (K, K), covariance of the quantised model's inputs.
        outputs: float32 (K, outputs), covariance of these inputs with the wanted outputs.
        weight: float32 (K, outputs), the FP32 weights.
    """

    order: NDArray[np.intp]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    weight: NDArray[np.float32]


def measure_moments(rows: LayerRows) -> Moments:
    """The moments of a layer's rows."""
    given = rows.given - rows.given.mean(axis=0)
    count = np.float32(len(given))
    inputs = (given.T @ given) / count
    outputs = (given.T @ (rows.wanted - rows.wanted.mean(axis=0))) / count
    order = np.argsort(-np.diagonal(inputs), kind="stable")
    return Moments(
        order,
        np.ascontiguousarray(inputs[np.ix_(order, order)]),
        np.ascontiguousarray(outputs[order]),
        np.ascontiguousarray(rows.weight.T[order]),
    )


def best_weights(moments: Moments, damping: float) -> NDArray[np.float32]:
    """The float weights, (K, outputs), that minimise the objective, regularised towards the FP32 weights.

    This is ridge regression towards the FP32 weights: it compensates for that part of the inputs' quantisation error
    that can be predicted from the inputs. With infinite damping, the result is the FP32 weights.

    Args:
        moments: The layer's statistics.
        damping: Strength of the regularisation, relative to the inputs' mean variance.
    """
    if not np.isfinite(damping):
        return moments.weight
    quadratic = _damped(moments, damping).astype(np.float64)
    gap = moments.outputs - moments.inputs @ moments.weight
    shifted: NDArray[np.float32] = moments.weight + np.linalg.solve(quadratic, gap).astype(np.float32)
    return shifted


def learn_codes(
    moments: Moments, weight: NDArray[np.float32], scales: NDArray[np.float32], damping: float, sweeps: int = SWEEPS
) -> NDArray[np.int8]:
    """Rounds weights so that the layer's output changes least.

    Args:
        moments: The layer's statistics.
        weight: float32 (K, outputs), from `best_weights`.
        scales: float32 (outputs,), of the codes.
        damping: How much each weight's own rounding error counts, relative to the inputs' mean variance.
        sweeps: Passes over all codes; a pass that changes nothing is the last.

    Returns:
        int8 (outputs, K) in -127..127.
    """
    search = _Search(_damped(moments, damping), weight, scales, moments.weight != 0)
    for _ in range(sweeps):
        if not search.sweep():
            break
    codes = search.codes
    restored = np.empty_like(codes)
    restored[moments.order] = codes
    return np.ascontiguousarray(restored.T).astype(np.int8)


def _damped(moments: Moments, damping: float) -> NDArray[np.float32]:
    ridge = np.float32(damping * float(np.mean(np.diagonal(moments.inputs))))
    quadratic: NDArray[np.float32] = moments.inputs.copy()
    quadratic[np.diag_indices_from(quadratic)] += ridge
    return quadratic


def feed_back(
    quadratic: NDArray[np.float32],
    weight: NDArray[np.float32],
    scales: NDArray[np.float32],
    free: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Rounds the weights to the nearest, input by input; the following inputs compensate for each error.

    Their share of it is the row of the Cholesky factor of the inverse covariance (GPTQ, section 3, step 3).

    Args:
        quadratic: float32 (K, K), positive definite except for inputs that never vary.
        weight: float32 (K, outputs).
        scales: float32 (outputs,).
        free: bool (K, outputs), false where the code must be 0; None leaves all free.

    Returns:
        Codes, float32 (K, outputs), in -127..127.
    """
    largest = np.full(weight.shape, LARGEST_CODE, np.float32) if free is None else np.where(free, LARGEST_CODE, 0)
    factor = _inverse_factor(quadratic)
    left, codes = weight.astype(np.float32, copy=True), np.empty_like(weight)
    for start in range(0, len(weight), BLOCK):
        block = slice(start, min(start + BLOCK, len(weight)))
        rows, part = left[block], factor[block, block]
        errors = np.empty_like(rows)
        for k in range(len(rows)):
            codes[start + k] = np.clip(np.rint(rows[k] / scales), -largest[start + k], largest[start + k])
            errors[k] = (rows[k] - codes[start + k] * scales) / part[k, k]
            rows[k + 1 :] -= np.outer(part[k, k + 1 :], errors[k])
        left[block.stop :] -= factor[block, block.stop :].T @ errors
    return codes


def _inverse_factor(quadratic: NDArray[np.float32]) -> NDArray[np.float32]:
    """U, upper triangular, with U^T U the inverse of a covariance; float32 (K, K)."""
    exact = quadratic.astype(np.float64)
    diagonal = np.diagonal(exact)
    # Inputs that never vary, and rounding errors of the sums, must not make it singular.
    exact[np.diag_indices_from(exact)] += SMALLEST_DAMPING * max(float(diagonal.mean()), np.finfo(np.float32).tiny)
    factor: NDArray[np.float32] = np.linalg.cholesky(np.linalg.inv(exact)).T.astype(np.float32)
    return factor


class _Search:
    """Codes and the gradient of the objective, which are updated together.

    Args:
        quadratic: float32 (K, K), the damped covariance.
        weight: float32 (K, outputs), the weights to round.
        scales: float32 (outputs,).
        free: bool (K, outputs), false where the code stays 0.

    Attributes:
        codes: float32 (K, outputs), the current codes.
    """

    def __init__(
        self,
        quadratic: NDArray[np.float32],
        weight: NDArray[np.float32],
        scales: NDArray[np.float32],
        free: NDArray[np.bool_],
    ) -> None:
        self.quadratic, self.scales = quadratic, scales
        self.codes = feed_back(quadratic, weight, scales, free)
        reach = np.where(free, np.float32(REACH), np.float32(0))
        self.lower = np.maximum(self.codes - reach, -LARGEST_CODE)
        self.upper = np.minimum(self.codes + reach, LARGEST_CODE)
        self.gradient = quadratic @ (self.codes * scales - weight)

    def sweep(self) -> bool:
        """Sets each code in turn to its best value with all others fixed; returns whether any changed."""
        changed = False
        for start in range(0, len(self.codes), BLOCK):
            block = slice(start, start + BLOCK)
            before = self.codes[block].copy()
            self._descend(block)
            steps = (self.codes[block] - before) * self.scales
            if steps.any():
                changed = True
                for others in (slice(start), slice(start + BLOCK, None)):
                    self.gradient[others] += self.quadratic[others, block] @ steps
        return changed

    def _descend(self, block: slice) -> None:
        """Updates one block, with only its own part of the gradient."""
        codes, gradient, quadratic = self.codes[block], self.gradient[block], self.quadratic[block, block]
        for k, (lowest, highest) in enumerate(zip(self.lower[block], self.upper[block], strict=True)):
            if quadratic[k, k] <= 0:
                continue
            best = np.clip(np.rint(codes[k] - gradient[k] / (quadratic[k, k] * self.scales)), lowest, highest)
            steps = (best - codes[k]) * self.scales
            codes[k] = best
            gradient += np.outer(quadratic[:, k], steps)
