"""Loading tensors into a model: handling the name prefixes of training tools, and explaining mismatches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.device.onnx_model.weights import LARGEST_WEIGHT
from googlenet_deploy.errors import BadWeightsError, requires
from googlenet_deploy.model.checkpoint_forms import is_average

with requires("export"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

AUXILIARY_PREFIXES = ("aux1.", "aux2.")
SHOWN = 3
# torch.compile, FSDP and activation checkpointing put these into the middle of names; no layer is called so.
WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
BATCH_COUNTER = "num_batches_tracked"
AVERAGE_COUNTER = "n_averaged"  # of torch's AveragedModel


@dataclass(frozen=True)
class Unwrapped:
    """Tensors under a model's own names.

    Attributes:
        tensors: By name, without the prefix.
        prefix: The removed prefix of every name, such as "module."; "" for none.
        notes: Notes on what was removed, chosen or omitted.
    """

    tensors: dict[str, Tensor]
    prefix: str = ""
    notes: tuple[str, ...] = ()


def unwrap(
    tensors: Mapping[str, Tensor], wanted: Collection[str], path: str | Path, key: str | None = None
) -> Unwrapped:
    """Finds a model's names among those of a file, whatever their prefix.

    Args:
        tensors: By the file's names.
        wanted: The model's own names.
        path: The file, for the error message.
        key: The requested prefix, such as "student"; None chooses automatically, preferring a moving average (EMA).

    Raises:
        BadWeightsError: The file holds several copies of the weights, or names collide.
    """
    cleaned = _without_wrappers(tensors, wanted, path)
    counts = _prefixes(cleaned, wanted)
    if not counts:
        return Unwrapped(cleaned)
    prefix, notes = _choose_prefix(counts, len(wanted) / 4, path, key)
    inside = {name.removeprefix(prefix): tensor for name, tensor in cleaned.items() if name.startswith(prefix)}
    inside.pop(AVERAGE_COUNTER, None)
    outside = [name for name in cleaned if not name.startswith(prefix) and name.split(".")[-1] != AVERAGE_COUNTER]
    if outside:
        notes.append(f"{counted(outside)} outside {prefix!r} left out: {listed(outside)}")
    return Unwrapped(inside, prefix, tuple(notes))


def load_state_dict(
    model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path, *, seen: str = "", remedy: str | None = None
) -> None:
    """Copies `tensors` into `model`, in place.

    Tensors of a GoogLeNet's auxiliary classifiers are ignored if the model has none; if only the model has them, they
    keep their initial values. BatchNorm's batch counter may be missing, since nothing reads it.

    Args:
        model: The model that receives the tensors.
        tensors: By the model's own state-dict names, any floating-point dtype.
        path: The file they come from, for the error message.
        seen: What was recognised in the file, for the error message, such as "names begin with 'module.'".
        remedy: What to do about tensors that do not fit.

    Raises:
        BadWeightsError: Tensors are missing, extra, wrongly shaped or not finite; the message names them.
    """
    wanted = model.state_dict()
    if getattr(model, "aux1", None) is None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY_PREFIXES)}
    problems = differences(required_names(wanted, tensors), wanted, tensors)
    if problems:
        note = f" ({seen})" if seen else ""
        raise BadWeightsError(path, "; ".join(problems) + note, remedy or _REMEDY)
    _raise_for_shapes(path, wanted, tensors)
    values = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    _raise_for_values(path, model, values)
    model.load_state_dict(values, strict=False)


def _raise_for_values(path: str | Path, model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Refuses numbers that no network computes with; a buffer of the user's, such as a mask, may be infinite."""
    learned = {name for name, _ in model.named_parameters()}
    learned |= {name for name in values if name.endswith((".running_mean", ".running_var"))}
    broken = [
        name
        for name, tensor in values.items()
        if bool(tensor.isnan().any() if name not in learned else ~torch.isfinite(tensor).all())
    ]
    diverged = "training diverged: use an earlier checkpoint"
    if broken:
        raise BadWeightsError(path, f"has values that are not finite in {_these(broken)}", diverged)
    large = [name for name in values if name in learned and bool((values[name].abs() >= LARGEST_WEIGHT).any())]
    if large:
        raise BadWeightsError(path, f"has values of {LARGEST_WEIGHT:g} and more in {_these(large)}", diverged)
    negative = [name for name in values if name.endswith(".running_var") and bool((values[name] < 0).any())]
    if negative:
        raise BadWeightsError(path, f"has negative variances in {_these(negative)}", "use an undamaged checkpoint")


_REMEDY = "is it of the architecture that was asked for? For another network pass --module FILE.py:CALLABLE"


def required_names(wanted: Iterable[str], tensors: Collection[str]) -> list[str]:
    """The model's names that a file must hold: all except batch counters and heads that it lacks entirely."""
    has_heads = any(name.startswith(AUXILIARY_PREFIXES) for name in tensors)
    return [
        name
        for name in wanted
        if not name.endswith(BATCH_COUNTER) and (has_heads or not name.startswith(AUXILIARY_PREFIXES))
    ]


def differences(required: Iterable[str], known: Collection[str], tensors: Collection[str]) -> list[str]:
    """Lists missing and extra names, up to three of each."""
    missing = [name for name in required if name not in tensors]
    extra = [name for name in tensors if name not in known]
    problems = [f"lacks {_these(missing)}"] if missing else []
    return [*problems, f"has the unknown {_these(extra)}"] if extra else problems


def dtype_note(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """A note if the weights are not stored as float32."""
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    others = sorted(kinds - {"float32"})
    return (f"weights are stored as {', '.join(others)} and were converted to float32",) if others else ()


def _without_wrappers(tensors: Mapping[str, Tensor], wanted: Collection[str], path: str | Path) -> dict[str, Tensor]:
    removed = WRAPPERS
    own = {part for name in wanted for part in name.split(".")}
    # DataParallel around a part of the model: "features.module.0.weight".
    if "module" not in own and any(".module." in name for name in tensors):
        removed = removed | {"module"}
    cleaned: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        kept = [part for index, part in enumerate(parts) if part not in removed or (part == "module" and not index)]
        short = ".".join(kept)
        if short in cleaned:
            raise BadWeightsError(path, f"holds {short} twice, once as {name}")
        cleaned[short] = tensor
    return cleaned


def _prefixes(names: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """The number of wanted names that follow each prefix."""
    known = frozenset(wanted)
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for index in range(len(parts)):
            if ".".join(parts[index:]) in known:
                counts[".".join([*parts[:index], ""]) if index else ""] += 1
    return counts


def _choose_prefix(counts: Counter[str], enough: float, path: str | Path, key: str | None) -> tuple[str, list[str]]:
    most = max(counts.values())
    # Prefixes of whole models only: "layer1.0." before a block's own "conv1.weight" is not one.
    whole = {prefix: count for prefix, count in counts.items() if count > most / 2}
    if key is not None:
        asked = {prefix: count for prefix, count in whole.items() if prefix.startswith(f"{key}.")}
        whole = asked or whole
    averages = [prefix for prefix in whole if is_average(prefix)]
    others = [prefix for prefix in whole if not is_average(prefix)]
    if len(averages) == 1 and others and key is None:
        note = f"weights are the moving average (EMA) named {averages[0]}*"
        choice = f"; --weights-key {others[0].rstrip('.')} uses the others" if others[0] else ""
        return averages[0], [note + choice]
    best = [prefix for prefix, count in whole.items() if count == max(whole.values())]
    if len(best) > 1 and most >= enough:
        shown = ", ".join(prefix.rstrip(".") or "(no prefix)" for prefix in sorted(best))
        raise BadWeightsError(path, f"contains the weights {len(best)} times: {shown}", "choose one with --weights-key")
    return best[0], []


def counted(names: Collection[str]) -> str:
    """A count of tensors: "1 tensor", "3 tensors"."""
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def listed(names: Collection[str]) -> str:
    """The first few names."""
    return ", ".join(list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _these(names: Collection[str]) -> str:
    return f"tensor {listed(names)}" if len(names) == 1 else f"{len(names)} tensors {listed(names)}"


def _raise_for_shapes(path: str | Path, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in tensors.items() if tensor.shape != wanted[name].shape]
    if not wrong:
        return
    counts = {(tensors[name].shape[0], wanted[name].shape[0]) for name in wrong if tensors[name].dim()}
    last = {name.rpartition(".")[0] for name in wrong}
    only_rows = all(tensors[name].dim() and tensors[name].shape[1:] == wanted[name].shape[1:] for name in wrong)
    # A classifier of another class count differs in weight and bias alike; if only one differs, it is damaged.
    whole = {f"{layer}.{part}" for layer in last for part in ("weight", "bias")} & set(wanted) == set(wrong)
    if only_rows and whole and len(counts) == 1 and len(last) <= SHOWN:
        has, needs = next(iter(counts))
        raise BadWeightsError(
            path,
            f"is of another class count: {listed(sorted(last))} has {has} classes, the model {needs}",
            f"export it with {has} classes (--module-args num_classes={has}); to learn {needs} classes from it, "
            "fine-tune it: `train --weights`",
        )
    texts = [f"{name} is {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}" for name in wrong[:SHOWN]]
    more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
    raise BadWeightsError(path, f"has tensors of the wrong shape: {'; '.join(texts)}{more}")
