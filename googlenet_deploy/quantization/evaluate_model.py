"""A model's accuracy on a folder of images, and its agreement with a reference, in one call."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy import __version__
from googlenet_deploy.device.class_files import StatedNames, choose_class_list
from googlenet_deploy.device.hosts import find_host, host_geometry
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.preprocessing_options import OPENCV_DIFFERS, StatedPreprocessing, runner_preprocessing
from googlenet_deploy.device.runner.select import RunnerOptions, open_runner
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import Report, counted, log_note
from googlenet_deploy.errors import GateError, GoogLeNetDeployError, InputError, MissingExtraError, UsageError
from googlenet_deploy.evaluation import evaluate as figures
from googlenet_deploy.evaluation.dataset import (
    ClassIndex,
    LabelledImages,
    has_labels,
    read_labelled_images,
    unlabelled_images,
)
from googlenet_deploy.evaluation.diagnosis import (
    Verdict,
    diagnose,
    evidence_of,
    label_verdicts,
    prepared_differently,
)
from googlenet_deploy.evaluation.summary import (
    as_json,
    figures_of,
    inner_lines,
    intervals_of,
    lines_of,
    paired_of,
    verdict_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.evaluation.evaluate import Evaluation
    from googlenet_deploy.quantization.layer_errors import InnerErrors

INNER_IMAGES = 32


@dataclass
class EvaluationReport:
    """The result of an evaluation.

    Attributes:
        model: The model's file.
        reference: What it was compared with; None without a comparison.
        images: The images with their labels.
        result: The evaluation, image by image.
        spec: How the model's images were prepared.
        backend: What ran the model.
        inner: Errors of inner tensors; None if they were not compared.
        inner_missing: Why they were not compared; "" if that was not requested.
        verdicts: Likely causes of an error.
        host: The evaluation with images resized as a host resizes them; None if that was not requested.
        host_name: The host.
        host_spec: How the host prepares images.
    """

    model: str
    reference: str | None
    images: LabelledImages
    result: Evaluation
    spec: Preprocessing
    backend: str
    inner: InnerErrors | None = None
    inner_missing: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    host: Evaluation | None = None
    host_name: str = ""
    host_spec: Preprocessing | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name: "top1", "top5" and "agreement" in percent, "sqnr" in dB, as far as they are known."""
        return figures_of(self.result)

    def lines(self) -> list[str]:
        """The figures, the errors of inner tensors, and the diagnosis."""
        lines = [f"note: {note}" for note in self.images.notes]
        images = counted(len(self.result.names), "image")
        lines.append(f"{self.model}: {images}, {len(self.result.skipped)} skipped, {self.backend}")
        lines += lines_of(self.result)
        if self.inner is not None:
            lines += inner_lines(self.inner.layers, self.inner.ranges, self.inner.images)
        elif self.inner_missing:
            lines.append(f"note: inner tensors were not compared: {self.inner_missing}")
        return [*lines, *verdict_lines(self.verdicts), *self._host_lines()]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {
            "model": self.model,
            "model_sha256": model_sha256(self.model),
            "reference": self.reference,
            "images": len(self.result.names),
            "figures": self.figures,
            "intervals_95": intervals_of(self.result),
            "paired": {name: each.as_dict() for name, each in paired_of(self.result).items()},
            "inside": None if self.inner is None else asdict(self.inner),
            "diagnosis": [asdict(verdict) for verdict in self.verdicts],
            "skipped": [{"image": item.name, "reason": item.reason} for item in self.result.skipped],
            "preprocessing": self.spec.to_json(),
            "host": self._host_values(),
            "backend": self.backend,
            "tool": f"googlenet-deploy {__version__}",
        }
        made: dict[str, Any] = as_json(values)
        return made

    def check(self, require: Mapping[str, float]) -> None:
        """Checks the figures against limits.

        Args:
            require: The smallest value allowed, by name.

        Raises:
            GateError: A figure is below its limit, or not known.
        """
        found = self.figures
        for name, wanted in require.items():
            if name not in found:
                raise GateError(f"{name} was required to be {wanted}, but the model does not return it")
            if found[name] < wanted:
                raise GateError(f"{name} is {found[name]:.2f}, required was {wanted}")

    def _host_lines(self) -> list[str]:
        """The accuracy lost by a host's way of resizing images, compared with the model's own preprocessing."""
        if self.host is None or self.host_spec is None:
            return []
        name, host = self.host_name, find_host(self.host_name)
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

    def _host_values(self) -> dict[str, Any] | None:
        if self.host is None or self.host_spec is None:
            return None
        return {
            "name": self.host_name,
            "preprocessing": self.host_spec.to_json(),
            "figures": figures_of(self.host),
            "intervals_95": intervals_of(self.host),
            "paired": {key: each.as_dict() for key, each in paired_of(self.host).items()},
        }


def evaluate(
    model: PathLike,
    images: PathLike,
    *,
    labels: PathLike | None = None,
    reference: PathLike | None = None,
    class_names: StatedNames = None,
    layers: int = INNER_IMAGES,
    host: str | None = None,
    limit: int | None = None,
    running: RunnerOptions | None = None,
    frames: FrameOptions | None = None,
    preprocessing: StatedPreprocessing = None,
    quiet: bool = True,
    report: Report = log_note,
) -> EvaluationReport:
    """Measures top-1 and top-5, plus agreement and SQNR if there is a reference, with 95 % intervals.

    Args:
        model: An ONNX file or an engine.
        images: A folder of images.
        labels: A CSV file of filename,label; None expects a folder per class.
        reference: A model to compare with, such as the FP32 one; then no labels are needed.
        class_names: A file, "imagenet" or names; None uses the model's own.
        layers: Number of images on which inner tensors are compared with the reference's; 0 compares none.
        host: Also evaluate with images resized as this program resizes them, such as "deepstream".
        limit: Use only the first `limit` images; None uses all.
        running: Backend and CPU threads.
        frames: Batch size, decoding threads, and what resizes images.
        preprocessing: How images are prepared; None uses each model's metadata.
        quiet: Show no progress.
        report: Receives notes.

    Raises:
        UsageError: The options make no sense, or the model does not state how its images are prepared.
        BadModelError: A model cannot be run.
        InputError: Images or labels are missing or unknown.
    """
    if layers < 0:
        raise UsageError("--layers cannot be below 0")
    running, frames = running or RunnerOptions(), frames or FrameOptions()
    if frames.image_backend == "opencv":
        report(OPENCV_DIFFERS)
    options: dict[str, Any] = {
        "batch_size": frames.batch_size,
        "workers": frames.workers,
        "backend": frames.image_backend,
        "quiet": quiet,
    }
    with ExitStack() as stack:

        def opened(path: PathLike) -> Runner:
            return stack.enter_context(
                open_runner(path, running.backend, threads=running.threads, batch=frames.batch_size)
            )

        runner = opened(model)
        other = None if reference is None else opened(reference)
        spec = runner_preprocessing(preprocessing, runner, report)
        other_spec = None if other is None else runner_preprocessing(preprocessing, other, report)
        comparing = reference is not None or host is not None
        listed = _labelled(images, labels, class_names, runner.metadata, comparing=comparing, report=report)
        if limit is not None:
            listed = replace(listed, sources=listed.sources[:limit], labels=listed.labels[:limit])
        result = figures.evaluate(runner, spec, listed, reference=other, reference_spec=other_spec, **options)
        compared = None if reference is None else str(reference)
        made = EvaluationReport(str(model), compared, listed, result, spec, runner.backend)
        names = choose_class_list(class_names, runner.metadata.class_names, report=_ignore).names
        if other is None or other_spec is None:
            made.verdicts = label_verdicts(result, names)
        else:
            _compare(made, runner, other, other_spec, names, layers, threads=running.threads, quiet=quiet)
        if host is not None:
            made.host_name, made.host_spec = host, host_geometry(find_host(host), spec)
            made.host = figures.evaluate(
                runner, made.host_spec, listed, reference=runner, reference_spec=spec, **options
            )
    return made


def _compare(
    made: EvaluationReport,
    runner: Runner,
    reference: Runner,
    reference_spec: Preprocessing,
    names: tuple[str, ...],
    layers: int,
    *,
    threads: int | None,
    quiet: bool,
) -> None:
    """Compares inner tensors where possible, and diagnoses the errors."""
    made.inner, made.inner_missing = _inner_errors(made, reference_spec, layers, threads=threads, quiet=quiet)
    own = runner.metadata.preprocessing, reference.metadata.preprocessing
    mine, theirs = own if own[0] is not None and own[1] is not None else (made.spec, reference_spec)
    assert mine is not None
    assert theirs is not None
    evidence = evidence_of(made.result, names, prepared_differently(mine, theirs))
    if made.inner is not None:
        evidence = replace(evidence, **made.inner.as_evidence())
    made.verdicts = diagnose(evidence)


def _inner_errors(
    made: EvaluationReport, reference_spec: Preprocessing, layers: int, *, threads: int | None, quiet: bool
) -> tuple[InnerErrors | None, str]:
    """Errors of the inner tensors on some of the images; or why they could not be compared."""
    if not layers:
        return None, ""
    paths = (str(made.reference), made.model)
    if not all(path.lower().endswith(".onnx") for path in paths):
        return None, "that needs two ONNX models"
    try:
        from googlenet_deploy.quantization.layer_errors import measure_files  # noqa: PLC0415 - needs an extra
    except MissingExtraError as error:
        return None, f"{error.message} ({error.remedy})"
    first, second = (paths[0], reference_spec), (paths[1], made.spec)
    try:
        return measure_files(first, second, made.result.names, layers, threads=threads, quiet=quiet), ""
    except GoogLeNetDeployError as error:
        return None, error.message


def _labelled(
    folder: PathLike,
    labels: PathLike | None,
    class_names: StatedNames,
    metadata: ModelMetadata,
    *,
    comparing: bool,
    report: Report,
) -> LabelledImages:
    listed = choose_class_list(class_names, metadata.class_names, metadata.class_ids, report)
    classes, place = ClassIndex(listed.names, listed.ids), str(folder)
    if comparing and labels is None and not has_labels(place, classes):
        images = unlabelled_images(place)
    else:
        try:
            images = read_labelled_images(place, None if labels is None else str(labels), classes)
        except InputError as error:
            if labels is None and not comparing:
                error.remedy = f"{error.remedy or 'pass labels'}; --reference compares two models without labels"
            raise
    if images.understood:
        report(images.understood)
    return images


def _ignore(_line: str) -> None:
    pass
