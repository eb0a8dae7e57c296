"""The ONNX models of a bundle: one classifier in one to three precisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from googlenet_deploy.device.builder.options import MODEL_PRECISIONS
from googlenet_deploy.device.onnx_model.header import OnnxHeader, model_sha256, read_onnx
from googlenet_deploy.device.specification import Preprocessing, describe_difference
from googlenet_deploy.errors import BadModelError, UsageError


@dataclass(frozen=True)
class BundleModel:
    """One ONNX file.

    Attributes:
        precision: "fp32", "fp16" or "int8".
        path: The file.
        header: Its header.
    """

    precision: str
    path: Path
    header: OnnxHeader

    @property
    def name(self) -> str:
        """Its name in bundles: ``model.onnx``, ``model.fp16.onnx``, ``model.int8.onnx``."""
        return "model.onnx" if self.precision == "fp32" else f"model.{self.precision}.onnx"

    @property
    def preprocessing(self) -> Preprocessing:
        """Its preprocessing."""
        assert self.header.metadata.preprocessing is not None  # `read_models` rejects others
        return self.header.metadata.preprocessing


@dataclass(frozen=True)
class BundleModels:
    """The same classifier in several precisions; the first one is deployed."""

    models: tuple[BundleModel, ...]

    @property
    def main(self) -> BundleModel:
        """The model that the engine is built from."""
        return self.models[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits; empty if the model has none."""
        return self.main.header.metadata.class_names

    @property
    def class_count(self) -> int | None:
        """Number of classes; None if the model does not define it."""
        shape = self.main.header.outputs[0].shape
        return shape[-1] if shape and isinstance(shape[-1], int) else None

    def made_from(self) -> dict[str, str]:
        """Hashes for the manifest."""
        values = {f"{model.precision}_sha256": model_sha256(model.path) for model in self.models}
        metadata = self.main.header.metadata
        values.update(weights_sha256=metadata.source_sha256, architecture=metadata.architecture)
        return {key: value for key, value in values.items() if value}

    def __iter__(self) -> Iterator[BundleModel]:
        return iter(self.models)


def read_models(paths: dict[str, Path], precision: str) -> BundleModels:
    """Reads the headers of the models and checks that they belong together.

    Args:
        paths: ONNX files by precision.
        precision: The device's precision, which determines the deployed model: for FP16 without its own model the FP32
            one, which TensorRT converts.

    Raises:
        UsageError: There is no model for the precision.
        BadModelError: One of them does not declare its preprocessing, or differs from the deployed one in input,
            preprocessing or classes.
    """
    if precision == "fp16" and "fp16" not in paths and "fp32" in paths:
        precision = "fp32"  # TensorRT converts it to FP16 by itself
    if precision not in paths:
        have = ", ".join(sorted(paths)) or "none"
        raise UsageError(f"there is no {precision} model to deploy (there is: {have})", f"pass --{precision} FILE")
    order = [precision, *(name for name in MODEL_PRECISIONS if name in paths and name != precision)]
    models = tuple(BundleModel(name, Path(paths[name]), read_onnx(paths[name])) for name in order)
    for model in models:
        _check(model)
        _check_same(models[0], model)
    return BundleModels(models)


def _check(model: BundleModel) -> None:
    header = model.header
    if len(header.inputs) != 1 or not header.outputs:
        raise BadModelError(model.path, f"has {len(header.inputs)} inputs; an image classifier has one")
    if header.metadata.preprocessing is None:
        raise BadModelError(
            model.path,
            "does not state how its images are prepared, so the device could not either",
            "pass --preprocessing imagenet, or store it with `export --onnx MODEL --preprocessing imagenet`",
        )
    if header.quantized != (model.precision == "int8"):
        what = "is quantised" if header.quantized else "is not quantised"
        raise BadModelError(model.path, f"{what}, so it is not the {model.precision} model")


def _check_same(first: BundleModel, other: BundleModel) -> None:
    different = describe_difference(first.preprocessing, other.preprocessing)
    if different:
        key, (ours, theirs) = next(iter(different.items()))
        raise BadModelError(other.path, f"is another classifier: {key} {theirs}, that of {first.path} is {ours}")
    if first.header.outputs[0].shape[1:] != other.header.outputs[0].shape[1:]:
        raise BadModelError(other.path, f"is another classifier: its outputs differ from those of {first.path}")
