"""The quantised model that quantisation-aware training starts from, refined on some of the training images."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import InputError, UsageError, requires
from googlenet_deploy.quantization.quantize import batches_of
from googlenet_deploy.quantization.quantized_model import make_draft
from googlenet_deploy.quantization.refine.registry import EQUALIZE, need_images, parse_refinements, refinement_steps
from googlenet_deploy.training.onnx_network import layers, with_weights

with requires("train"):
    from googlenet_deploy.training.fake_quantization import plain_layer

if TYPE_CHECKING:
    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.quantization.quantize import QuantizationOptions
    from googlenet_deploy.quantization.quantized_model import Draft
    from googlenet_deploy.training.data.dataset.dataset import TrainingData
    from googlenet_deploy.training.onnx_network import OnnxNetwork

DEFAULT = "best"
IMAGES = 256  # as `quantize` draws


def chosen_refinements(asked: str | None, data: TrainingData) -> list[str]:
    """The refinements of a run: those asked for, or the best that its images allow.

    Raises:
        UsageError: They need images in files, and these are streamed; or they change the model that the table is of.
    """
    names = parse_refinements(DEFAULT if asked is None else asked)
    if EQUALIZE in names:
        raise UsageError(
            f"--refine {EQUALIZE} changes the FP32 model, so its table does not fit",
            "leave it out: training evens out the channels' ranges by itself",
        )
    if need_images(names) and not data.train:
        if asked is not None:
            raise UsageError(f"--refine {asked} needs images in files, not in shards", "give --refine none")
        return []
    return names


def starting_draft(
    network: OnnxNetwork,
    table: CalibrationTable,
    quantization: QuantizationOptions,
    names: list[str],
    data: TrainingData,
    *,
    seed: int = 0,
    quiet: bool = False,
) -> Draft:
    """Quantises a network's present weights, which may have been pruned since it was opened.

    Args:
        network: The network.
        table: The calibration of its model.
        quantization: What is quantised, and whose thresholds are used.
        names: Refinements in their order.
        data: Whose training images the refinements learn from.
        seed: Of the choice of images.
        quiet: Show no progress.

    Raises:
        BadTableError: The table lacks a tensor or the method.
        InputError: No training image can be read.
    """
    source = network.source
    weights = {name: plain_layer(network.model, name) for name, _ in layers(network.graph)}
    draft = make_draft(with_weights(network, weights), table, quantization.placement, quantization.method, source.path)
    batches = batches_of(source, _images(data, seed))
    try:
        for refinement in refinement_steps(names, quiet=quiet)[1]:
            draft = refinement(draft, batches)
    except InputError as error:
        raise InputError(data.root, f"of its training images {error.problem}", error.remedy) from error
    return draft


def _images(data: TrainingData, seed: int) -> list[ImageSource]:
    drawn = random.Random(seed).sample(data.train, min(IMAGES, len(data.train)))  # noqa: S311 - reproducible, no secret
    return [ImageSource(str(sample.path)) for sample in drawn]
