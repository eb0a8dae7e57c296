"""Adapts a model to a host: undoes the host's fixed normalisation, sets its batch and form of output; verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.hosts import Host, fixed_hosts, host_input
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError, requires
from googlenet_deploy.export.passes.host_input import HostInput
from googlenet_deploy.export.passes.outputs import AppendSoftmax, FlatOutput, SetBatch, gives_probabilities
from googlenet_deploy.export.samples import Samples, prepare, seeded_samples
from googlenet_deploy.export.verify import Comparison, reference_of, run
from googlenet_deploy.graph.files import read_metadata, store_metadata
from googlenet_deploy.graph.graph import runtime_inputs, shape_of
from googlenet_deploy.graph.pass_manager import Pass, PassManager
from googlenet_deploy.graph.tidy import Tidy

with requires("export"):
    from onnx import ModelProto

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing


def model_for_host(
    path: PathLike, model: ModelProto, host: Host, entries: Mapping[str, str] | None = None
) -> tuple[ModelProto, Comparison]:
    """Changes a classifier so that it returns its usual answers for the input that the host prepares.

    Args:
        path: The model's file, for messages.
        model: Its content; it is not changed.
        host: A host whose normalisation is fixed.
        entries: Further entries for the metadata.

    Returns:
        The model, whose preprocessing is now the host's, and how it compares with the original on pixels that the host
        would have prepared.

    Raises:
        UsageError: The host's normalisation is configurable, or the host cannot prepare the model's input.
        BadModelError: The model does not state how its images are prepared, its batch is fixed to another size, or it
            does not return one score per class.
        VerificationError: The result computes something else.
    """
    if host.normalization is None:
        known = ", ".join(fixed_hosts())
        raise UsageError(
            f"the normalisation of {host.title} can be configured, so no model has to undo it",
            f"pack the model with `bundle`; hosts with a fixed one: {known}",
        )
    metadata = read_metadata(path, model)
    spec = metadata.preprocessing
    if spec is None:
        raise BadModelError(
            path, "does not state how its images are prepared, so nothing can be undone", "pass --preprocessing"
        )
    fed = host_input(host, spec)
    _check_output(path, model)
    samples = seeded_samples(spec)
    try:
        changed = PassManager().run(model, _passes(model, spec, host))
        comparison = _compare(model, changed, samples, fed)
        if host.flat_output:
            changed = PassManager().run(changed, [FlatOutput()])
    except VerificationError as error:
        raise BadModelError(path, f"cannot be made ready for {host.title}: {error.message}", error.remedy) from error
    if not comparison.holds:
        raise VerificationError(f"the model for {host.title} differs from {path}: {comparison.sentence()}")
    extra = {**metadata.extra, "input_of": host.name, **(entries or {})}
    store_metadata(changed, replace(metadata, preprocessing=fed, extra=extra))
    return changed, comparison


def _check_output(path: PathLike, model: ModelProto) -> None:
    outputs = model.graph.output
    if len(outputs) != 1 or len(shape_of(outputs[0])) != 2:
        names = ", ".join(output.name for output in outputs)
        raise BadModelError(
            path,
            f"gives {names}; a host reads one output with a score for each class",
            "export it without --top-k",
        )


def _passes(model: ModelProto, spec: Preprocessing, host: Host) -> list[Pass]:
    assert host.normalization is not None
    passes: list[Pass] = [HostInput(spec, host.normalization)]
    if host.probabilities and not gives_probabilities(model):
        passes.append(AppendSoftmax())
    if host.batch is not None and shape_of(runtime_inputs(model.graph)[0])[0] != host.batch:
        passes.append(SetBatch(host.batch))
    return [*passes, Tidy()]


def _compare(original: ModelProto, changed: ModelProto, samples: Samples, fed: Preprocessing) -> Comparison:
    """Compares the changed model on pixels as the host prepares them with the original on its own preprocessing."""
    outputs = run(changed, replace(samples, prepared=prepare(samples.pixels, fed)))
    return reference_of(original, samples).compare_outputs(outputs, "the model it was made from")
