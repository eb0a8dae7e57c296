"""Quantisation-aware fine-tuning: from an FP32 model and its calibration table to a Q/DQ model with learned values.

The network computes in every step what the INT8 model will compute (`fake_quantization.py`), so that weights, biases
and, where asked for, scales settle where rounding hurts least. It may learn from labels, from the FP32 network's
scores (distillation), or from both.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.calibration.calibrate import open_source
from googlenet_deploy.calibration.table import check_matches, load_table
from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.graph.files import read_metadata, store_metadata, write_model
from googlenet_deploy.quantization.quantize import QuantizationOptions, build_checked, table_hash
from googlenet_deploy.quantization.quantized_model import Draft
from googlenet_deploy.quantization.refine.activation_offset import shift_tensors
from googlenet_deploy.training.relabel import relabelled

with requires("train"):
    from googlenet_deploy.model.architecture import ARCHITECTURES
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.fake_quantization import extract, insert_fake_quantization
    from googlenet_deploy.training.imitation import ImitationLoss
    from googlenet_deploy.training.network import Network, set_dropout
    from googlenet_deploy.training.onnx_network import OnnxNetwork, open_network
    from googlenet_deploy.training.qat_optimizer import qat_optimizer
    from googlenet_deploy.training.qat_start import chosen_refinements, starting_draft
    from googlenet_deploy.training.setup import Task
    from googlenet_deploy.training.sparsity import choose_sparsity

if TYPE_CHECKING:
    from pathlib import Path

    from googlenet_deploy.training.data.dataset.dataset import TrainingData
    from googlenet_deploy.training.options import QatOptions, TrainingOptions
    from googlenet_deploy.training.setup import MakeTask
    from googlenet_deploy.training.validation import Validation

# In steps of INT8; see `qat_optimizer.py`. What refinements found is lost where weights move fast.
LEARNING_RATE, REFINED_LEARNING_RATE = 0.001, 0.0005
RECORD = "quantization_training"  # the key of the training record in the model's metadata


@dataclass(frozen=True)
class _Start:
    """What quantisation-aware training starts from."""

    network: OnnxNetwork
    draft: Draft
    quantization: QuantizationOptions


def qat_task(
    model: str | Path, table: str | Path, quantization: QuantizationOptions | None = None, *, quiet: bool = False
) -> MakeTask:
    """What `train` trains and writes where an FP32 model is to be quantised with care.

    Args:
        model: The FP32 model that `export` wrote.
        table: The calibration table of that model.
        quantization: What is quantised and how it is written, as for `quantize`.
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
        draft = starting_draft(network, loaded, chosen, names, data, seed=options.seed, quiet=quiet)
        options = replace(options, sparsity=sparsity, qat=replace(options.qat, refine=",".join(names) or "none"))
        return _task(_Start(network, draft, chosen), teacher, options, data, told)

    return make


def _task(
    start: _Start, teacher: GoogLeNet, options: TrainingOptions, data: TrainingData, told: tuple[str, ...]
) -> Task:
    network, source, qat = start.network, start.network.source, options.qat
    assert qat is not None
    insert_fake_quantization(network, start.draft, learned=qat.scales == "learned")
    architecture = network.model.architecture
    options = replace(
        options,
        architecture=architecture.name,
        width=network.model.width,
        input_size=source.preprocessing.crop[0],
        resize=source.preprocessing.resize,
        learning_rate=options.learning_rate or (LEARNING_RATE if qat.refine == "none" else REFINED_LEARNING_RATE),
        dropout=0.0,
        auxiliary_weight=0.0,
    )
    set_dropout(network.model, options)
    trained = Network(
        model=network.model,
        architecture=ARCHITECTURES[architecture.name],
        preprocessing=source.preprocessing,
        options=options,
        weights_sha256=source.sha256,
        table_sha256=table_hash(start.draft.table),
        notes=(_note(start, qat), *told),
    )

    def write(path: Path, model: GoogLeNet, record: dict[str, Any]) -> None:
        _write(path, model, record, start, qat)

    criterion = ImitationLoss(network.model, teacher, qat.distillation, options.label_smoothing)
    score = _closeness if qat.distillation == 1.0 else None
    return Task(trained, data, write, criterion, qat_optimizer, reference=teacher, score=score)


def _closeness(validation: Validation) -> float:
    """Where no labels are learned from, the best epoch is the one nearest to the FP32 network."""
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


def _note(start: _Start, qat: QatOptions) -> str:
    plan = start.draft.plan
    what = f"{len(plan.nodes)} layers, {len(plan.tensors)} tensors of {len(plan.groups)} {qat.scales} scales"
    learns = "labels" if qat.distillation == 0 else "the FP32 network" if qat.distillation == 1 else "both"
    left = "".join(f"; in float: {name} ({reason})" for name, reason in plan.skipped.items())
    begins = ", ".join(f"{name}: {said}" for name, said in start.draft.notes.items()) or "the table alone"
    return f"quantisation-aware: {what}, learns from {learns}{left}; begins with {begins}"


def _write(path: Path, model: GoogLeNet, record: dict[str, Any], start: _Start, qat: QatOptions) -> None:
    trained = extract(start.network, model, start.draft)
    low, high = trained.changes
    note = f"{qat.scales} scales, changed by factors of {low:.3f} to {high:.3f}, epoch {record.get('epoch')}"
    draft = Draft(
        model=trained.model,
        plan=start.draft.plan,
        table=start.draft.table,
        scales=trained.scales,
        weights=trained.weights,
        notes={**start.draft.notes, "quantisation-aware training": note},
    )
    quantised, _ = build_checked(shift_tensors(draft, trained.offsets), start.network.source, start.quantization)
    metadata = read_metadata(path, quantised)
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    store_metadata(quantised, replace(metadata, extra={**metadata.extra, RECORD: text}))
    require_pattern(quantised, read_metadata(path, quantised).extra)
    write_model(path, quantised)
