"""Measure a model's accuracy on labelled images, and how near it is to a reference.

Labels come from a CSV file of filename,label (class index, class name or WordNet id), or from a folder per class.
Every share is given with its 95 % Wilson interval.

Examples:
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.onnx --images val/ --json figures.json
  googlenet-deploy evaluate model.int8.onnx --reference model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv --require top1=74
"""

from __future__ import annotations

import argparse
import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    add_runner_options,
    class_names,
    gate,
    positive,
    report_skipped,
    resolve_preprocessing,
)
from googlenet_deploy.errors import GateError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.evaluation.dataset import LabelledImages
    from googlenet_deploy.evaluation.evaluate import Evaluation

GATES = ("top1", "top5", "agreement", "sqnr")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--labels", metavar="FILE", help="CSV of filename,label (default: a folder per class)")
    parser.add_argument("--reference", metavar="MODEL", help="a model to compare with, such as the FP32 one")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--require",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help=f"exit with status 3 where a figure is below: {', '.join(GATES)} (percent, sqnr in dB); may be repeated",
    )
    add_runner_options(parser)
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the figures, writes them, and checks the gates."""
    from googlenet_deploy.device.runner.select import open_runner
    from googlenet_deploy.evaluation.evaluate import evaluate

    _check_gates(arguments)
    with ExitStack() as stack:
        runner = stack.enter_context(
            open_runner(arguments.model, arguments.backend, threads=arguments.threads, batch=arguments.batch)
        )
        reference: Optional[Runner] = None
        if arguments.reference:
            reference = stack.enter_context(
                open_runner(arguments.reference, arguments.backend, threads=arguments.threads, batch=arguments.batch)
            )
        spec = resolve_preprocessing(arguments, runner)
        images = _labelled_images(arguments, runner)
        result = evaluate(
            runner,
            spec,
            images,
            reference=reference,
            reference_spec=None if reference is None else resolve_preprocessing(arguments, reference),
            batch_size=arguments.batch,
            workers=arguments.workers,
            backend=arguments.image_backend,
            quiet=arguments.quiet,
        )
        backend = runner.backend
    report_skipped(result.skipped, [])
    figures = _figures(result)
    _print(arguments, result, images, figures, backend)
    if arguments.json:
        _write_json(arguments, result, spec, figures, backend)
    _apply_gates(arguments.require, figures)
    return 0


def _check_gates(arguments: argparse.Namespace) -> None:
    for name, _ in arguments.require:
        if name not in GATES:
            raise UsageError(f"--require {name}: choose one of {', '.join(GATES)}")
        if name in ("agreement", "sqnr") and not arguments.reference:
            raise UsageError(f"--require {name} needs --reference")


def _labelled_images(arguments: argparse.Namespace, runner: Runner) -> LabelledImages:
    from dataclasses import replace

    from googlenet_deploy.evaluation.dataset import ClassIndex, read_labelled_images

    classes = ClassIndex(class_names(arguments, runner), runner.metadata.class_ids)
    images = read_labelled_images(arguments.images, arguments.labels, classes)
    if arguments.limit:
        images = replace(images, sources=images.sources[: arguments.limit], labels=images.labels[: arguments.limit])
    return images


def _figures(result: Evaluation) -> Dict[str, float]:
    """The figures that gates and JSON name, in percent, nats and dB."""
    figures = {"top1": result.model.accuracy1.percent}
    if result.classes_given >= 5:
        figures["top5"] = result.model.accuracy5.percent
    if result.agreement is not None and result.reference is not None:
        figures["reference_top1"] = result.reference.accuracy1.percent
        figures["reference_top5"] = result.reference.accuracy5.percent
        figures["agreement"] = 100.0 * result.agreement.equal / result.agreement.images
        figures["kl_divergence"] = result.agreement.mean_divergence
        figures["sqnr"] = result.agreement.sqnr
    return figures


def _print(
    arguments: argparse.Namespace,
    result: Evaluation,
    images: LabelledImages,
    figures: Dict[str, float],
    backend: str,
) -> None:
    for note in images.notes:
        print(f"note: {note}")
    print(f"{arguments.model}: {len(result.names)} images, {len(result.skipped)} skipped, {backend}")
    lines: List[Tuple[str, str]] = [("top-1", str(result.model.accuracy1))]
    if "top5" in figures:
        lines.append(("top-5", str(result.model.accuracy5)))
    else:
        lines.append(("top-5", f"not measured: the model gives {result.classes_given} classes per image"))
    if result.agreement is not None and result.reference is not None:
        lines += [
            ("reference top-1", str(result.reference.accuracy1)),
            ("reference top-5", str(result.reference.accuracy5)),
            ("agreement", f"{figures['agreement']:.1f} % of the best classes are the reference's"),
            ("KL divergence", f"{figures['kl_divergence']:.5f} nats"),
            ("score SQNR", f"{figures['sqnr']:.2f} dB"),
        ]
    for name, value in lines:
        print(f"  {name:16} {value}")


def _write_json(
    arguments: argparse.Namespace, result: Evaluation, spec: Preprocessing, figures: Dict[str, float], backend: str
) -> None:
    from googlenet_deploy import __version__
    from googlenet_deploy.device.files import sha256_file, write_json

    finite: Dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    write_json(
        arguments.json,
        {
            "model": arguments.model,
            "model_sha256": sha256_file(arguments.model),
            "reference": arguments.reference,
            "images": len(result.names),
            "figures": finite,
            "intervals_95": {
                "top1": list(result.model.accuracy1.interval),
                "top5": list(result.model.accuracy5.interval),
            },
            "skipped": [{"image": item.name, "reason": item.reason} for item in result.skipped],
            "preprocessing": spec.to_json(),
            "backend": backend,
            "tool": f"googlenet-deploy {__version__}",
        },
    )


def _apply_gates(gates: List[Tuple[str, float]], figures: Dict[str, float]) -> None:
    for name, wanted in gates:
        if name not in figures:
            raise GateError(f"{name} was required to be {wanted}, but the model does not give it")
        if figures[name] < wanted:
            raise GateError(f"{name} is {figures[name]:.2f}, required was {wanted}")
