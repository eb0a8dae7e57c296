"""Quantisation-aware fine-tuning: from an FP32 model and its calibration table to a Q/DQ model with learned values.

The network computes in every step what the INT8 model will compute (`quantizers.py`), so that weights, biases
and, optionally, scales settle where rounding hurts least. It may learn from labels, from the FP32 network's
scores (distillation), or from both.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.calibration.calibrate import open_source
from googlenet_deploy.calibration.table import check_matches, load_table
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError, UsageError, requires
from googlenet_deploy.graph.files import read_metadata, store_metadata, write_model
from googlenet_deploy.quantization.quantize import QuantizationOptions, batches_of, build_checked, table_hash
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest
from googlenet_deploy.quantization.refine.activation_offset import shift_tensors
from googlenet_deploy.quantization.refine.registry import EQUALIZE, need_images, parse_refinements, refinement_steps
from googlenet_deploy.quantization.weights import LARGEST_CODE
from googlenet_deploy.training.qat.onnx_network import layers, with_weights

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn.utils import parametrize

    from googlenet_deploy.model.architecture import ARCHITECTURES
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.distillation import SMALLEST, ImitationLoss, Teacher, load_teacher, relabelled
    from googlenet_deploy.training.network import TrainedNetwork, set_dropout, stated_short_side
    from googlenet_deploy.training.qat.insert import extract, insert_fake_quantization, plain_layer
    from googlenet_deploy.training.qat.onnx_network import OnnxNetwork, open_network
    from googlenet_deploy.training.qat.quantizers import Scale, WeightQuantizer
    from googlenet_deploy.training.setup import Task
    from googlenet_deploy.training.sparsity import choose_sparsity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.training.data.dataset import TrainingData
    from googlenet_deploy.training.options import QatOptions, TrainingOptions
    from googlenet_deploy.training.setup import MakeTask
    from googlenet_deploy.training.validation import Validation


# In steps of INT8; see `qat_optimizer`. The results of refinements are lost if weights move fast.
LEARNING_RATE, REFINED_LEARNING_RATE = 0.001, 0.0005
RECORD = "quantization_training"  # the key of the training record in the model's metadata


@dataclass(frozen=True)
class _Start:
    """What quantisation-aware training starts from."""

    network: OnnxNetwork
    quantized: QuantizedModel
    quantization: QuantizationOptions


def qat_task(
    model: str | Path, table: str | Path, quantization: QuantizationOptions | None = None, *, quiet: bool = False
) -> MakeTask:
    """The task of quantisation-aware training, for `train`.

    Args:
        model: The FP32 model that `export` wrote.
        table: The calibration table of that model.
        quantization: What is quantised and how it is saved, as for `quantize`.
        quiet: Show no progress.
    """
    chosen = quantization or QuantizationOptions()

    def make(options: TrainingOptions, data: TrainingData) -> Task:
        assert options.qat is not None
        _check_options(options)
        names = chosen_refinements(options.qat.refine, data)
        source, loaded = open_source(model), load_table(table)
        check_matches(loaded, table, source.sha256, source.preprocessing)
        network = open_network(source)
        data = relabelled(data, read_metadata(model, source.model), network.model)
        teacher = copy.deepcopy(network.model).requires_grad_(False).eval()
        sparsity, told = choose_sparsity(options, network.model, trained=True)
        quantized = starting_model(network, loaded, chosen, names, data, seed=options.seed, quiet=quiet)
        options = replace(options, sparsity=sparsity, qat=replace(options.qat, refine=",".join(names) or "none"))
        return _task(_Start(network, quantized, chosen), teacher, options, data, told)

    return make


def _task(
    start: _Start, teacher: GoogLeNet, options: TrainingOptions, data: TrainingData, told: tuple[str, ...]
) -> Task:
    network, source, qat = start.network, start.network.source, options.qat
    assert qat is not None
    insert_fake_quantization(network, start.quantized, learned=qat.scales == "learned")
    architecture = network.model.architecture
    options = replace(
        options,
        architecture=architecture.name,
        width=network.model.width,
        input_size=source.preprocessing.crop[0],
        resize=stated_short_side(source.preprocessing),
        learning_rate=options.learning_rate or (LEARNING_RATE if qat.refine == "none" else REFINED_LEARNING_RATE),
        dropout=0.0,
        auxiliary_weight=0.0,
    )
    set_dropout(network.model, options)
    trained = TrainedNetwork(
        model=network.model,
        architecture=ARCHITECTURES[architecture.name],
        preprocessing=source.preprocessing,
        options=options,
        weights_sha256=source.sha256,
        table_sha256=table_hash(start.quantized.table),
        notes=(_note(start, options), *told),
    )
    imitated = Teacher(teacher)
    if options.distill_from is not None:
        imitated = load_teacher(options.distill_from, trained, data)
        trained = replace(trained, teacher_sha256=imitated.sha256)

    def write(path: Path, model: GoogLeNet, record: dict[str, Any]) -> None:
        _write(path, model, record, start, qat)

    criterion = ImitationLoss(network.model, imitated, options.distillation, options.label_smoothing, near=SMALLEST)
    score = _closeness if options.distillation == 1.0 and options.distill_from is None else None
    return Task(trained, data, write, criterion, qat_optimizer, reference=teacher, score=score)


def _closeness(validation: Validation) -> float:
    """The score without labels: the best epoch is the one closest to the FP32 network."""
    assert validation.agreement is not None
    return validation.agreement.sqnr


def _check_options(options: TrainingOptions) -> None:
    for option, given in (
        ("--architecture", options.architecture),
        ("--width", options.width),
        ("--input-size", options.input_size),
        ("--resize", options.resize),
        ("--weights", options.weights),
        ("--dropout", options.dropout),
    ):
        if given is not None:
            raise UsageError(f"{option} has no meaning with --qat, which starts from the model as it is")
    if options.freeze != "none":
        raise UsageError("--freeze has no meaning with --qat: every layer adapts to its quantised neighbours")


def _note(start: _Start, options: TrainingOptions) -> str:
    plan, qat = start.quantized.plan, options.qat
    assert qat is not None
    whom = options.distill_from or "the FP32 network"
    layers, tensors = counted(len(plan.nodes), "layer"), counted(len(plan.tensors), "tensor")
    what = f"{layers}, {tensors} of {len(plan.groups)} {qat.scales} scales"
    learns = "labels" if options.distillation == 0 else whom if options.distillation == 1 else f"labels and {whom}"
    left = "".join(f"; in float: {name} ({reason})" for name, reason in plan.skipped.items())
    begins = ", ".join(f"{name}: {said}" for name, said in start.quantized.notes.items()) or "the table alone"
    return f"quantisation-aware: {what}, learns from {learns}{left}; begins with {begins}"


def _write(path: Path, model: GoogLeNet, record: dict[str, Any], start: _Start, qat: QatOptions) -> None:
    trained = extract(start.network, model, start.quantized)
    low, high = trained.changes
    note = f"{qat.scales} scales, changed by factors of {low:.3f} to {high:.3f}, epoch {record.get('epoch')}"
    quantized = QuantizedModel(
        model=trained.model,
        plan=start.quantized.plan,
        table=start.quantized.table,
        scales=trained.scales,
        weights=trained.weights,
        notes={**start.quantized.notes, "quantisation-aware training": note},
    )
    quantised, _ = build_checked(shift_tensors(quantized, trained.offsets), start.network.source, start.quantization)
    metadata = read_metadata(path, quantised)
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    store_metadata(quantised, replace(metadata, extra={**metadata.extra, RECORD: text}))
    require_pattern(quantised, read_metadata(path, quantised).extra)
    write_model(path, quantised)


DEFAULT = "best"
IMAGES = 256  # drawn as by `quantize`


def chosen_refinements(asked: str | None, data: TrainingData) -> list[str]:
    """The refinements of a run: those requested, or the best that its images allow.

    Raises:
        UsageError: They need images in files, and these are streamed; or they change the model that the table belongs
            to.
    """
    names = parse_refinements(DEFAULT if asked is None else asked)
    if EQUALIZE in names:
        raise UsageError(
            f"--refine {EQUALIZE} changes the FP32 model, so its table does not fit",
            "leave it out: training evens out the channels' ranges by itself",
        )
    if need_images(names) and not data.train:
        if asked is not None:
            raise UsageError(f"--refine {asked} needs images in files, not in shards", "pass --refine none")
        return []
    return names


def starting_model(
    network: OnnxNetwork,
    table: CalibrationTable,
    quantization: QuantizationOptions,
    names: list[str],
    data: TrainingData,
    *,
    seed: int = 0,
    quiet: bool = False,
) -> QuantizedModel:
    """Quantises a network's current weights, which may have been pruned since it was opened.

    Args:
        network: The network.
        table: The calibration of its model.
        quantization: What is quantised, and with which threshold method.
        names: Refinements in their order.
        data: The data set whose training images the refinements use.
        seed: Seed of the choice of images.
        quiet: Show no progress.

    Raises:
        BadTableError: The table lacks a tensor or the method.
        InputError: No training image can be read.
    """
    source = network.source
    weights = {name: plain_layer(network.model, name) for name, _ in layers(network.graph)}
    quantized = round_to_nearest(
        with_weights(network, weights), table, quantization.placement, quantization.method, source.path
    )
    batches = batches_of(source, _images(data, seed))
    try:
        for refinement in refinement_steps(names, quiet=quiet)[1]:
            quantized = refinement(quantized, batches)
    except InputError as error:
        raise InputError(data.root, f"of its training images {error.problem}", error.remedy) from error
    return quantized


def _images(data: TrainingData, seed: int) -> list[ImageSource]:
    drawn = random.Random(seed).sample(data.train, min(IMAGES, len(data.train)))  # noqa: S311 - reproducible, no secret
    return [ImageSource(str(sample.path)) for sample in drawn]


# Biases and scales are few, and their effect is smooth, so they may change faster than weights.
FASTER = 25.0
BETAS = (0.9, 0.99)
SMALLEST_STEP = 1e-12  # of a layer whose numbers are all zero


def qat_optimizer(model: GoogLeNet) -> torch.optim.Optimizer:
    """Adam over all parameters of a network that `insert_fake_quantization` changed; the loop sets learning rates."""
    return torch.optim.Adam(list(_groups(model)), lr=0.0, betas=BETAS)


def _groups(model: nn.Module) -> Iterator[dict[str, Any]]:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            yield _group(*_weight_and_step(module))
            if module.bias is not None:
                yield _group(module.bias, FASTER * _largest(module.bias) / LARGEST_CODE)
        elif isinstance(module, Scale) and module.value.requires_grad:
            yield _group(module.value, FASTER * float(module.initial.mean()) / LARGEST_CODE)


def _weight_and_step(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, float]:
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight, _largest(layer.weight) / LARGEST_CODE
    chain = layer.get_submodule("parametrizations.weight")
    weight = chain.get_parameter("original")
    quantizer = next((step for step in chain.children() if isinstance(step, WeightQuantizer)), None)
    step = _largest(weight) / LARGEST_CODE if quantizer is None else float(quantizer.scale.initial.mean())
    return weight, step


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def _group(parameter: Tensor, step: float) -> dict[str, Any]:
    return {"params": [parameter], "lr_factor": max(step, SMALLEST_STEP)}
