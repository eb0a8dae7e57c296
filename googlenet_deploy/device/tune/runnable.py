"""Opens every model that runs here, and compares its classes with FP32's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

from googlenet_deploy.device.benchmark.inputs import BenchmarkInputs, make_batches, real_inputs, synthetic_inputs
from googlenet_deploy.device.runner.protocol import check_shape
from googlenet_deploy.device.tune.agreement import agreement_percent, classes_of
from googlenet_deploy.device.tune.models import FoundModel, find_models
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.device.tune.settings import RunnableModel
from googlenet_deploy.device.tune.tuned_file import LeftOut, TuneSetting
from googlenet_deploy.errors import BadModelError, DeviceError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

TIMED_IMAGES = 8
# A file, and the setting and number of batches in flight that it is opened for.
OpenFile = Callable[[Path, TuneSetting, int], "Runner"]
# Errors that mean that a model does not run here; errors of images and options are not the model's.
_CANNOT_RUN = (BadModelError, DeviceError, MissingExtraError)
Classes = Dict[Tuple[str, str], "NDArray[np.int64]"]


@dataclass(frozen=True)
class TuneRequest:
    """The request for `Tuner`.

    Attributes:
        places: Files and folders with models.
        options: Objective, limits, and what is tried.
        open_file: Opens a model; see `OpenFile`.
        resolve: Returns the preprocessing of an opened model.
        sources: Real images; None uses synthetic images, for which no agreement is reported.
        reference: The model whose classes count as FP32's; None uses the FP32 model among the places.
        image_backend: Library that resizes images.
        seed: Seed of synthetic images.
        power: Name of the power meter, as for `open_sampler`.
        power_rails: Rails that make up the total.
        checked: Whether engines need their manifests.
    """

    places: Sequence[PathLike]
    options: TuneOptions
    open_file: OpenFile
    resolve: Callable[[Runner], Preprocessing]
    sources: Optional[Sequence[ImageSource]] = None
    reference: Optional[PathLike] = None
    image_backend: str = "pillow"
    seed: int = 0
    power: str = "auto"
    power_rails: Tuple[str, ...] = ()
    checked: bool = True


class ModelProbe:
    """Finds, opens and runs the models of a request.

    Args:
        request: The request.
        check: Called between steps; may raise.

    Attributes:
        left_out: What does not run, and why.
        notes: Notes for the user.
        images: Number of classified images; 0 without a comparison.
    """

    def __init__(self, request: TuneRequest, check: Callable[[], None]) -> None:
        self._request, self._options, self._check = request, request.options, check
        self._inputs: Optional[BenchmarkInputs] = None
        self.left_out: List[LeftOut] = []
        self.notes: List[str] = []
        self.images = 0

    @property
    def timed_inputs(self) -> BenchmarkInputs:
        """The images that are timed; only after `runnable`."""
        assert self._inputs is not None
        return _first(self._inputs, TIMED_IMAGES)

    def runnable(self) -> List[RunnableModel]:
        """Every model that runs here, with its agreement with FP32; engines before ONNX models.

        Raises:
            DeviceError: No model runs here, or there is no reference for --min-agreement.
            UsageError: The options do not state how images are prepared.
            GoogLeNetDeployError: See `find_models` and `real_inputs`.
        """
        request = self._request
        found, left_out = find_models(request.places, self._options.backends, checked=request.checked)
        self.left_out += left_out
        found = sorted(found, key=lambda entry: not entry.engine)
        models: List[RunnableModel] = []
        classes: Classes = {}
        for entry in found:
            if not entry.engine and not self._options.backends and any(model.found.engine for model in models):
                self.left_out.append(LeftOut(entry.model.path, "engines run here; --backend tries it as well"))
                continue
            for backend in entry.backends:
                try:
                    model, answers = self._opened(entry, backend)
                except _CANNOT_RUN as error:
                    self.left_out.append(LeftOut(f"{entry.model.path} in {backend}", error.message))
                    continue
                models.append(model)
                if answers is not None:
                    classes[entry.model.path, backend] = answers
        if not models:
            reasons = "; ".join(dict.fromkeys(f"{item.what}: {item.reason}" for item in self.left_out))
            raise DeviceError(f"not one of the models runs here: {reasons}", "see what is missing with doctor")
        return self._with_agreement(models, classes, found)

    def _opened(self, entry: FoundModel, backend: str) -> Tuple[RunnableModel, Optional[NDArray[np.int64]]]:
        """Opens a model, runs it once, and classifies the images if there are any."""
        self._check()
        request = self._request
        # Opened for several images, a CPU runner shows whether it divides batches although the model takes one image.
        setting = TuneSetting(entry.model.path, backend, "?", 1 if entry.engine else 2)
        with request.open_file(entry.file, setting, 1) as runner:
            spec = request.resolve(runner)
            inputs = self._inputs_for(spec)
            smallest = runner.batch_range[0]
            batch = make_batches(_first(inputs, TIMED_IMAGES), spec, request.image_backend, smallest)[0][1]
            check_shape(runner, batch)
            runner.run(batch)
            answers = None
            if inputs.kind == "real":
                answers = classes_of(runner, inputs.images, spec, request.image_backend, self._check)
            model = RunnableModel(
                entry, backend, runner.backend, runner.device, runner.batch_range, spec, tuple(runner.notes)
            )
        return model, answers

    def _inputs_for(self, spec: Preprocessing) -> BenchmarkInputs:
        request = self._request
        if self._inputs is None:
            if request.sources is None:
                self._inputs = synthetic_inputs(request.seed, spec)
            else:
                sources, count = request.sources, self._options.image_count
                step = max(1.0, len(sources) / count)
                spread = [sources[int(index * step)] for index in range(min(count, len(sources)))]
                self._inputs = real_inputs(spread, spec, request.image_backend, count)
                self.notes += [f"{item.name}: skipped: {item.reason}" for item in self._inputs.skipped]
        return self._inputs

    def _with_agreement(
        self,
        models: List[RunnableModel],
        classes: Classes,
        found: Sequence[FoundModel],
    ) -> List[RunnableModel]:
        if not classes:
            return models
        reference = self._reference(models, classes, found)
        if reference is None:
            if self._options.min_agreement is not None:
                raise DeviceError(
                    "--min-agreement: no FP32 model runs here to compare with",
                    "pass one with --reference, or build its engine: ./build.sh --candidates",
                )
            self.notes.append("no FP32 model runs here, so the agreement is not known")
            return models
        self.images = len(reference)
        return self._agreeing(
            [
                model._replace(agreement=agreement_percent(classes[model.found.model.path, model.backend], reference))
                for model in models
            ]
        )

    def _reference(
        self,
        models: List[RunnableModel],
        classes: Classes,
        found: Sequence[FoundModel],
    ) -> Optional[NDArray[np.int64]]:
        """FP32's classes: from the given model, else from a model that is tried, else from an ONNX model beside it."""
        if self._request.reference is not None:
            (entry,), _ = find_models([self._request.reference], ["onnxruntime"], checked=self._request.checked)
            return self._opened(entry, "auto" if not entry.engine else entry.backends[0])[1]
        for model in models:
            if model.found.model.precision == "fp32":
                self.notes.append(f"agreement: with {model.found.model.path} in {model.name}")
                return classes[model.found.model.path, model.backend]
        for entry in found:
            if entry.model.precision == "fp32" and not entry.engine:
                try:
                    model, answers = self._opened(entry, "auto")
                except _CANNOT_RUN:
                    continue
                self.notes.append(f"agreement: with {entry.model.path} in {model.name}")
                return answers
        return None

    def _agreeing(self, models: List[RunnableModel]) -> List[RunnableModel]:
        """The models that meet --min-agreement, or if none does, the nearest."""
        limit = self._options.min_agreement
        if limit is None:
            return models
        step = 100 / self.images
        if step > 100 - limit > 0:
            self.notes.append(f"{self.images} images: the agreement comes in steps of {step:.1f} points")
        best = max(model.agreement or 0.0 for model in models)
        kept = [model for model in models if (model.agreement or 0.0) >= min(limit, best)]
        for model in models:
            if model not in kept:
                what = f"{model.found.model.path} in {model.backend}"
                reason = f"agrees with FP32 on {model.agreement:.2f} % of the images, --min-agreement is {limit:g}"
                self.left_out.append(LeftOut(what, reason))
        return kept


def _first(inputs: BenchmarkInputs, count: int) -> BenchmarkInputs:
    return inputs._replace(images=inputs.images[:count])
