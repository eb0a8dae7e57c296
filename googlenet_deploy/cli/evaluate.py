"""Measure a model's accuracy on labelled images, and its agreement with a reference.

Labels come from a CSV file of filename,label (class index, class name or WordNet id), or from a folder per class.
Every figure has its 95 % interval. With a reference the two are compared image by image, and tensor by tensor where
both are ONNX models with the same names, and the likely cause of a large error is explained. Without labels only the
comparison is made. --preprocessing-of measures what the fixed preprocessing of a host costs.

Examples:
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.onnx --images val/ --json figures.json
  googlenet-deploy evaluate model.int8.onnx --reference model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.int8.onnx --reference model.onnx --images photos/
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv --require top1=74
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv --preprocessing-of deepstream
"""

from __future__ import annotations

import argparse
import sys
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
from googlenet_deploy.device.hosts import find_host, host_geometry, host_names
from googlenet_deploy.device.options import read_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.runner.select import RunnerOptions
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.errors import GateError, GoogLeNetDeployError, InputError, MissingExtraError, UsageError
from googlenet_deploy.evaluation.gates import FIGURES, OF_A_REFERENCE

if TYPE_CHECKING:
    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.evaluation.dataset import ClassIndex, LabelledImages
    from googlenet_deploy.evaluation.diagnosis import Verdict
    from googlenet_deploy.evaluation.evaluate import Evaluation
    from googlenet_deploy.quantization.layer_errors import InnerErrors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--labels", metavar="FILE", help="CSV of filename,label (default: a folder per class)")
    parser.add_argument("--reference", metavar="MODEL", help="a model to compare with, such as the FP32 one")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")
    parser.add_argument(
        "--layers",
        type=int,
        default=32,
        metavar="N",
        help="compare inner tensors with the reference's on N images (default 32; 0: not)",
    )
    parser.add_argument(
        "--preprocessing-of",
        choices=host_names(),
        metavar="HOST",
        help=f"also evaluate with images resized as a host does it: {', '.join(host_names())}",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--require",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help=f"exit with status 3 where a figure is below: {', '.join(FIGURES)} (percent, sqnr in dB); may be repeated",
    )
    add_runner_options(parser, leave_out=("max_latency", "as_is"))
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the figures, writes them, and checks the gates."""
    from googlenet_deploy.device.runner.select import open_runner
    from googlenet_deploy.evaluation.evaluate import evaluate
    from googlenet_deploy.evaluation.summary import figures_of

    _check_options(arguments)
    running, frames = read_options(arguments, RunnerOptions), read_options(arguments, FrameOptions)
    read_options(arguments, PreprocessingOptions)  # refuses what is out of range before a model is opened
    with ExitStack() as stack:

        def opened(model: str) -> Runner:
            return stack.enter_context(
                open_runner(model, running.backend, threads=running.threads, batch=frames.batch_size)
            )

        runner = opened(arguments.model)
        reference = opened(arguments.reference) if arguments.reference else None
        spec = resolve_preprocessing(arguments, runner)
        reference_spec = None if reference is None else resolve_preprocessing(arguments, reference)
        images = _labelled_images(arguments, runner)
        options: Dict[str, Any] = {
            "batch_size": frames.batch_size,
            "workers": frames.workers,
            "backend": frames.image_backend,
            "quiet": arguments.quiet,
        }
        result = evaluate(runner, spec, images, reference=reference, reference_spec=reference_spec, **options)
        report = _Report(result, spec, runner.backend)
        if reference is not None and reference_spec is not None:
            report.add_comparison(arguments, runner, reference, reference_spec)
        else:
            report.check_labels(class_names(arguments, runner.metadata.class_names))
        if arguments.preprocessing_of:
            report.host_spec = host_geometry(find_host(arguments.preprocessing_of), spec)
            report.host = evaluate(runner, report.host_spec, images, reference=runner, reference_spec=spec, **options)
    report_skipped(result.skipped, [])
    report.print(arguments.model, images, arguments.preprocessing_of)
    if arguments.json:
        report.write(arguments)
    _apply_gates(arguments.require, figures_of(result))
    return 0


class _Report:
    """What was found, for people and for JSON.

    Args:
        result: The evaluation.
        spec: How the model's images were prepared.
        backend: What ran the model.
    """

    def __init__(self, result: Evaluation, spec: Preprocessing, backend: str) -> None:
        self.result, self.spec, self.backend = result, spec, backend
        self.inner: Optional[InnerErrors] = None
        self.inner_missing = ""
        self.verdicts: List[Verdict] = []
        self.host: Optional[Evaluation] = None
        self.host_spec: Optional[Preprocessing] = None

    def check_labels(self, names: Tuple[str, ...]) -> None:
        """Looks whether the labels are in another order than the model's classes."""
        from googlenet_deploy.evaluation.diagnosis import label_verdicts

        self.verdicts = label_verdicts(self.result, names)

    def add_comparison(
        self, arguments: argparse.Namespace, runner: Runner, reference: Runner, reference_spec: Preprocessing
    ) -> None:
        """Compares inner tensors, where that can be done, and diagnoses."""
        from dataclasses import replace

        from googlenet_deploy.evaluation.diagnosis import diagnose, evidence_of, prepared_differently

        self.inner, self.inner_missing = _inner_errors(arguments, self.result, self.spec, reference_spec)
        own = runner.metadata.preprocessing, reference.metadata.preprocessing
        mine, theirs = own if own[0] is not None and own[1] is not None else (self.spec, reference_spec)
        assert mine is not None
        assert theirs is not None
        names = class_names(arguments, runner.metadata.class_names)
        evidence = evidence_of(self.result, names, prepared_differently(mine, theirs))
        if self.inner is not None:
            evidence = replace(evidence, **self.inner.as_evidence())
        self.verdicts = diagnose(evidence)

    def print(self, model: str, images: LabelledImages, host: Optional[str] = None) -> None:
        """Prints the figures, what was found inside, and the diagnosis."""
        from googlenet_deploy.evaluation.summary import inner_lines, lines_of, verdict_lines

        lines = [f"note: {note}" for note in images.notes]
        lines.append(f"{model}: {len(self.result.names)} images, {len(self.result.skipped)} skipped, {self.backend}")
        lines += lines_of(self.result)
        if self.inner is not None:
            lines += inner_lines(self.inner.layers, self.inner.ranges, self.inner.images)
        elif self.inner_missing:
            lines.append(f"note: inner tensors were not compared: {self.inner_missing}")
        lines += verdict_lines(self.verdicts)
        lines += self._host_lines(host)
        for line in lines:
            print(line)

    def _host_lines(self, name: Optional[str]) -> List[str]:
        """What a host's way to resize images costs; its figures are compared with the model's own preprocessing."""
        from googlenet_deploy.evaluation.summary import lines_of

        if name is None or self.host is None or self.host_spec is None:
            return []
        host = find_host(name)
        lines = [
            f"images resized as {host.title} does: {self.host_spec.describe_geometry()}",
            f"  (the model's own, called reference below: {self.spec.describe_geometry()})",
            *lines_of(self.host),
        ]
        if host.normalization is not None:
            lines.append(
                f"note: {name} normalises images by fixed figures, which `bundle --kind {name}` and `export --input-of "
                f"{name}` undo in the model; these figures are those of such a model"
            )
        return lines

    def write(self, arguments: argparse.Namespace) -> None:
        """Writes everything as JSON."""
        from dataclasses import asdict

        from googlenet_deploy import __version__
        from googlenet_deploy.device.files import write_json
        from googlenet_deploy.device.onnx_model.header import model_sha256
        from googlenet_deploy.evaluation.summary import as_json, figures_of, intervals_of, paired_of

        values: Dict[str, Any] = {
            "model": arguments.model,
            "model_sha256": model_sha256(arguments.model),
            "reference": arguments.reference,
            "images": len(self.result.names),
            "figures": figures_of(self.result),
            "intervals_95": intervals_of(self.result),
            "paired": {name: each.as_dict() for name, each in paired_of(self.result).items()},
            "inside": None if self.inner is None else asdict(self.inner),
            "diagnosis": [asdict(verdict) for verdict in self.verdicts],
            "skipped": [{"image": item.name, "reason": item.reason} for item in self.result.skipped],
            "preprocessing": self.spec.to_json(),
            "host": self._host_values(arguments.preprocessing_of),
            "backend": self.backend,
            "tool": f"googlenet-deploy {__version__}",
        }
        write_json(arguments.json, as_json(values))

    def _host_values(self, name: Optional[str]) -> Optional[Dict[str, Any]]:
        from googlenet_deploy.evaluation.summary import figures_of, intervals_of, paired_of

        if name is None or self.host is None or self.host_spec is None:
            return None
        return {
            "name": name,
            "preprocessing": self.host_spec.to_json(),
            "figures": figures_of(self.host),
            "intervals_95": intervals_of(self.host),
            "paired": {key: each.as_dict() for key, each in paired_of(self.host).items()},
        }


def _inner_errors(
    arguments: argparse.Namespace, result: Evaluation, spec: Preprocessing, reference_spec: Preprocessing
) -> Tuple[Optional[InnerErrors], str]:
    """Inner tensors of both models on some of the images; or why there are none."""
    if not arguments.layers:
        return None, ""
    if not all(path.lower().endswith(".onnx") for path in (arguments.model, arguments.reference)):
        return None, "that needs two ONNX models"
    try:
        from googlenet_deploy.quantization.layer_errors import measure_files
    except MissingExtraError as error:
        return None, f"{error.message} ({error.remedy})"
    try:
        return (
            measure_files(
                (arguments.reference, reference_spec),
                (arguments.model, spec),
                result.names,
                arguments.layers,
                threads=read_options(arguments, RunnerOptions).threads,
                quiet=arguments.quiet,
            ),
            "",
        )
    except GoogLeNetDeployError as error:
        return None, error.message


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.layers < 0:
        raise UsageError("--layers cannot be below 0")
    for name, _ in arguments.require:
        if name not in FIGURES:
            raise UsageError(f"--require {name}: choose one of {', '.join(FIGURES)}")
        if name in OF_A_REFERENCE and not arguments.reference:
            raise UsageError(f"--require {name} needs --reference")


def class_index(arguments: argparse.Namespace, metadata: ModelMetadata) -> ClassIndex:
    """Finds classes by what --class-names or the model itself says of them."""
    from googlenet_deploy.device.class_files import read_class_list
    from googlenet_deploy.evaluation.dataset import ClassIndex

    names = class_names(arguments, metadata.class_names)
    own = not arguments.class_names or arguments.class_names == "imagenet"
    return ClassIndex(names, metadata.class_ids if own else read_class_list(arguments.class_names).ids)


def _labelled_images(arguments: argparse.Namespace, runner: Runner) -> LabelledImages:
    from dataclasses import replace

    from googlenet_deploy.evaluation.dataset import has_labels, read_labelled_images, unlabelled_images

    classes = class_index(arguments, runner.metadata)
    comparing = bool(arguments.reference or arguments.preprocessing_of)
    if comparing and arguments.labels is None and not has_labels(arguments.images, classes):
        images = unlabelled_images(arguments.images)
    else:
        try:
            images = read_labelled_images(arguments.images, arguments.labels, classes)
        except InputError as error:
            if arguments.labels is None and not comparing:
                error.remedy = f"{error.remedy or 'give labels'}; --reference compares two models without labels"
            raise
    if images.understood:
        print(f"note: {images.understood}", file=sys.stderr)
    if arguments.limit:
        images = replace(images, sources=images.sources[: arguments.limit], labels=images.labels[: arguments.limit])
    return images


def _apply_gates(gates: List[Tuple[str, float]], figures: Dict[str, float]) -> None:
    for name, wanted in gates:
        if name not in figures:
            raise GateError(f"{name} was required to be {wanted}, but the model does not give it")
        if figures[name] < wanted:
            raise GateError(f"{name} is {figures[name]:.2f}, required was {wanted}")
