"""Learned rounding, layer by layer in graph order: `gptq` finds the codes, `bias_correction` the bias.

The codes reproduce the FP32 weights' output on the quantised inputs. The bias then makes the mean output that of the
FP32 layer on FP32 inputs, which compensates for the part of the activations' error that does not average out. AdaRound
lets the codes compensate for that error as well (its asymmetric form, `shift` below infinity). For a layer with a
thousand inputs, of which a few hundred images contain few independent values, that fits noise:
`benchmarks/quantization.py` measures both on images that were not learned from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.text import counted
from googlenet_deploy.quantization.refine.bias_correction import fit_bias, outputs_of
from googlenet_deploy.quantization.refine.gptq import best_weights, learn_codes, measure_moments
from googlenet_deploy.quantization.refine.layerwise import refine_layers

if TYPE_CHECKING:
    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.quantization.quantized_model import QuantizedModel
    from googlenet_deploy.quantization.refine.im2col import LayerRows
    from googlenet_deploy.quantization.refine.layerwise import Fitted

IMAGES = 256
# As a share of the inputs' mean variance. Between a hundredth and a third of it the result changes little.
DAMPING = 0.03


def learn_rounding(
    quantized: QuantizedModel,
    batches: Batches,
    *,
    shift: float = np.inf,
    damping: float = DAMPING,
    threads: int | None = None,
    quiet: bool = False,
) -> QuantizedModel:
    """Learns the rounding of every layer's weights, and its bias; see `refine_layers` for other arguments and errors.

    Args:
        quantized: The quantised model; it is not changed.
        batches: Prepared images.
        shift: Damping of `best_weights`; if infinite, the FP32 weights themselves are rounded.
        damping: Damping of `learn_codes`.
        threads: ONNX Runtime threads; None uses one per core.
        quiet: Show no progress.
    """

    def fit(rows: LayerRows, present: Fitted) -> Fitted:
        moments = measure_moments(rows)
        codes = learn_codes(moments, best_weights(moments, shift), present.scales, damping)
        learned = replace(present, codes=codes)
        return replace(learned, bias=fit_bias(outputs_of(rows, learned.weight)))

    result, layers, images = refine_layers(
        quantized, batches, fit, fit_bias, images=IMAGES, title="rounding", threads=threads, quiet=quiet
    )
    return replace(
        result, notes={**result.notes, "learned rounding": f"{counted(layers, 'layer')}, on {counted(images, 'image')}"}
    )
