"""The state shared by all steps of one deployment."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from googlenet_deploy.calibration.images import hash_contents
from googlenet_deploy.deployment.config import DeployConfig
from googlenet_deploy.deployment.state import DeploymentState
from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.device.specification import Preprocessing, read_preprocessing
from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import InputError, UsageError
from googlenet_deploy.model.weight_files import find_weight_files

if TYPE_CHECKING:
    from googlenet_deploy.model.checkpoint import TorchClassifier
    from googlenet_deploy.model.module import ModuleRequest

T = TypeVar("T")
FP32, FP16, INT8 = "model.onnx", "model.fp16.onnx", "model.int8.onnx"
MODELS = {"fp32": FP32, "fp16": FP16, "int8": INT8}
TABLE, OUTLINES = "table.json", "outlines.json"
PUBLISHED = ("bvlc", "torchvision")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step.

    Attributes:
        outputs: Files it wrote, by their paths in the folder.
        text: Its result, in one line.
        data: Data for later steps and the report, as JSON values.
        notes: Notes for the user.
    """

    outputs: tuple[str, ...]
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Step(ABC):
    """One step of the pipeline.

    Attributes:
        name: Its short name, as listed.
    """

    name: str

    def left_out(self, job: Job) -> str:
        """Why the step is not needed; empty if it is."""
        del job
        return ""

    @abstractmethod
    def inputs(self, job: Job) -> dict[str, Any]:
        """Everything its result depends on, as JSON values: hashes of files, options."""

    @abstractmethod
    def run(self, job: Job) -> Outcome:
        """Does the work; writes files atomically."""


class Job:
    """One deployment: the configuration, its folder, the progress so far, and caches of costly inputs.

    Args:
        config: The configuration, adapted to the target.
        target: The target device.
        quiet: Show no progress.
    """

    def __init__(self, config: DeployConfig, target: Target, *, quiet: bool = False) -> None:
        self.config, self.target, self.quiet = config, target, quiet
        self.folder = Path(config.output)
        self.state = DeploymentState(self.folder)

    def path(self, name: str) -> Path:
        """The path of a file in the folder."""
        return self.folder / name

    def data(self, step: str) -> Mapping[str, Any]:
        """Data from an earlier step; empty if it was left out."""
        record = self.state.records.get(step)
        return record.data if record is not None else {}

    def load(self, kind: type[T], file: str) -> T:
        """Loads what a step wrote with `encode` to a file of the folder; an empty `kind` if no step did."""
        if not self.state.hash_of(file):
            return kind()
        return decode(kind, json.loads(self.path(file).read_text(encoding="utf-8")), file)

    def precisions(self) -> list[str]:
        """The precisions that have a model so far, FP32 first."""
        return [name for name, file in MODELS.items() if self.state.hash_of(file)]

    @property
    def threads(self) -> int | None:
        """CPU threads, in the form that runners accept."""
        return self.config.threads or None

    @cached_property
    def checkpoint(self) -> TorchClassifier:
        """The classifier; loading it imports PyTorch, so only steps that are actually done request it.

        Raises:
            UsageError: Neither the PyTorch module nor the configuration declares the preprocessing.
        """
        from googlenet_deploy.model.weights import load_weights  # noqa: PLC0415 - brings PyTorch

        if not self.config.module:
            return load_weights(self.config.weights, key=self.config.weights_key or None)
        from googlenet_deploy.model.module import load_module  # noqa: PLC0415

        return load_module(self._module, self._preprocessing)

    @property
    def _module(self) -> ModuleRequest:
        from googlenet_deploy.model.module import ModuleRequest  # noqa: PLC0415

        config = self.config
        return ModuleRequest(
            config.module,
            config.module_args,
            config.weights or None,
            config.weights_key or None,
            config.class_names or None,
        )

    def _preprocessing(self, declared: Preprocessing | None) -> Preprocessing:
        if self.config.preprocessing:
            return read_preprocessing(self.config.preprocessing)
        if declared is None:
            raise UsageError(
                f"{self.config.module}: the model does not state how its images are prepared",
                "pass --preprocessing imagenet, torchvision, plain or a JSON file",
            )
        return declared

    @cached_property
    def weights_hash(self) -> str:
        """Hash of everything that defines the classifier; for published weights, hashed later, their name."""
        config = self.config
        if not config.module:
            own = config.weights if config.weights in PUBLISHED else find_weight_files(config.weights).sha256()
            return f"{own} {config.weights_key}".strip()
        places = (config.module.rpartition(":")[0], config.weights, config.preprocessing, config.class_names)
        contents = [find_weight_files(place).sha256() if place and Path(place).exists() else place for place in places]
        parts = [config.module, config.module_args, config.weights_key, *contents]
        return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()

    @cached_property
    def images(self) -> list[ImageSource]:
        """Every image in the folder, sorted.

        Raises:
            InputError: There are no images, or it is not a folder.
        """
        if Path(self.config.images).is_file():
            raise InputError(self.config.images, "is a file", "pass a folder of photographs with --images")
        found = find_images([self.config.images]).images
        if not found:
            raise InputError(self.config.images, "contains no images", "pass a folder of photographs with --images")
        return found

    @cached_property
    def image_hashes(self) -> list[str]:
        """The hash of each image's content."""
        return hash_contents(self.images)

    @cached_property
    def images_digest(self) -> str:
        """One hash over all images."""
        return hashlib.sha256("".join(self.image_hashes).encode("ascii")).hexdigest()

    def sources(self, names: Sequence[str]) -> list[ImageSource]:
        """Images by their names within the folder of images."""
        root = Path(self.config.images)
        return [ImageSource(str(root / name)) for name in names]
