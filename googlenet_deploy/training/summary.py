"""The summary at the end of a run: accuracy by class, and which classes are confused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.training.loop import EpochResult
    from googlenet_deploy.training.validation import Validation

LARGEST_TABLE = 12  # classes whose confusion matrix fits in a terminal
SHOWN = 5
NAME_WIDTH, COLUMN_WIDTH = 28, 6


def result_lines(best: EpochResult, names: Sequence[str], epochs: int) -> list[str]:
    """A short human-readable summary; with few classes the whole confusion matrix, otherwise the commonest errors."""
    validation = best.validation
    lines = [f"  validation accuracy {validation.accuracy}, epoch {best.epoch} of {epochs}"]
    return lines + (_table(validation, names) if len(names) <= LARGEST_TABLE else _worst(validation, names))


def comparison_line(best: EpochResult, baseline: tuple[Validation, Validation]) -> str:
    """The effect of quantisation-aware training: FP32, INT8 as calibrated, and INT8 as trained."""
    before, float32 = baseline
    words = [f"FP32 {float32.accuracy.percent:.2f} %"]
    for name, validation in (("INT8 as calibrated", before), ("trained", best.validation)):
        assert validation.agreement is not None
        words.append(f"{name} {validation.accuracy.percent:.2f} % and {validation.agreement.sqnr:.2f} dB from FP32")
    return f"  {', '.join(words)}"


def result_values(best: EpochResult, names: Sequence[str]) -> dict[str, Any]:
    """The whole summary, JSON-serialisable."""
    validation = best.validation
    return {
        "epoch": best.epoch,
        "validation": validation_values(validation),
        "classes": [
            {"name": name, "correct": score.successes, "images": score.total}
            for name, score in zip(names, validation.class_accuracy(), strict=True)
        ],
        "confusion": validation.confusion.tolist(),
    }


def validation_values(validation: Validation) -> dict[str, Any]:
    """Accuracy and, if a network is imitated, the agreement with it."""
    near = validation.agreement
    compared = {} if near is None else {"agreement": near.equal / near.images, "logit_sqnr_db": near.sqnr}
    return {
        "top1_percent": validation.accuracy.percent,
        "interval_percent": list(validation.accuracy.interval),
        "images": validation.accuracy.total,
        "loss": validation.loss,
        **compared,
    }


def _table(validation: Validation, names: Sequence[str]) -> list[str]:
    """A row per class; columns are headed by the class names if these are short, otherwise by row numbers."""
    short = max(len(name) for name in names) <= COLUMN_WIDTH
    columns = list(names) if short else [str(number) for number in range(1, len(names) + 1)]
    labels = list(names) if short else [f"{number} {name}" for number, name in zip(columns, names, strict=True)]
    width = max(len(str(validation.confusion.max())), *map(len, columns)) + 2
    label_width = min(NAME_WIDTH, max(map(len, labels)))
    heading = "".join(f"{column:>{width}}" for column in columns)
    lines = ["  images by true class (row) and predicted class (column):", f"    {'':{label_width}}{heading}"]
    for label, row, score in zip(labels, validation.confusion, validation.class_accuracy(), strict=True):
        cells = "".join(f"{count:>{width}}" for count in row.tolist())
        share = f"{score.percent:5.1f} %" if score.total else "    no images"
        lines.append(f"    {label[:label_width]:{label_width}}{cells}  {share}")
    return lines


def _worst(validation: Validation, names: Sequence[str]) -> list[str]:
    seen = [(score, name) for score, name in zip(validation.class_accuracy(), names, strict=True) if score.total]
    scores = sorted(seen, key=lambda pair: pair[0].percent)
    worst = [f"{name} {score.percent:.1f} %" for score, name in scores[:SHOWN] if score.percent < 100.0]
    wrong = validation.confusion * (1 - np.eye(len(names), dtype=np.int64))
    pairs = [np.unravel_index(index, wrong.shape) for index in np.argsort(wrong, axis=None)[::-1][:SHOWN]]
    confused = [
        f"{names[int(true)]} for {names[int(said)]} ({count})" for true, said in pairs if (count := wrong[true, said])
    ]
    lines = [f"  least accurate classes: {', '.join(worst)}"] if worst else []
    return [*lines, *([f"  taken most often: {', '.join(confused)}"] if confused else [])]
