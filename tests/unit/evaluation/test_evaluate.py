from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.protocol import TensorSpec
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, InputError
from googlenet_deploy.evaluation.dataset import LabelledImages
from googlenet_deploy.evaluation.diagnosis import evidence_of
from googlenet_deploy.evaluation.evaluate import Evaluation, evaluate, evaluate_models
from googlenet_deploy.evaluation.summary import accuracies_of, figures_of, lines_of, paired_of

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "also red": (200, 9, 9)}


@pytest.fixture
def images(tmp_path: Path) -> LabelledImages:
    """Four images of 12 by 10 pixels, the last one with a wrong label."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (12, 10), colour).save(tmp_path / f"{name}.png")
    sources = tuple(ImageSource(str(tmp_path / f"{name}.png")) for name in COLOURS)
    return LabelledImages(sources, (0, 1, 2, 1))


def run(model: Path, images: LabelledImages, reference: Path | None = None, **options: Any) -> Evaluation:
    with OnnxRuntimeRunner(model) as runner:
        spec = runner.metadata.preprocessing
        assert spec is not None
        if reference is None:
            return evaluate(runner, spec, images, quiet=True, **options)
        with OnnxRuntimeRunner(reference) as other:
            return evaluate(runner, spec, images, reference=other, quiet=True, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_image_counts_once_whatever_the_batch(
    batch_size: int, colour_model: Path, images: LabelledImages
) -> None:
    result = run(colour_model, images, batch_size=batch_size)
    assert result.model.best == [0, 1, 2, 0]
    assert result.model.top1 == [True, True, True, False]
    assert result.model.top5 == [True] * 4
    assert (result.model.accuracy1.successes, result.model.accuracy5.successes) == (3, 4)
    assert result.names == [source.name for source in images.sources]
    assert result.classes_given == 3
    assert result.reference is result.agreement is None


def test_unusable_images_are_left_out_and_the_labels_stay_with_their_images(
    colour_model: Path, images: LabelledImages
) -> None:
    sources = (ImageSource("gone.png"), *images.sources)
    result = run(colour_model, LabelledImages(sources, (2, *images.labels)), batch_size=2)
    assert result.model.top1 == [True, True, True, False]
    assert [item.name for item in result.skipped] == ["gone.png"]


def test_no_usable_image_is_an_error(colour_model: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: not one of the images could be used"):
        run(colour_model, LabelledImages((ImageSource("gone.png"),), (0,)))


def test_a_label_that_the_model_does_not_have_is_an_error(colour_model: Path, images: LabelledImages) -> None:
    with pytest.raises(BadModelError, match="has 3 classes, but an image has the label 3"):
        run(colour_model, replace(images, labels=(0, 1, 2, 3)))


def test_a_reference_is_compared_image_by_image(
    colour_model: Path, colour_classifier: Callable[..., Path], images: LabelledImages, tmp_path: Path
) -> None:
    swapped = colour_classifier(tmp_path / "swapped.onnx", order=(0, 2, 1))
    result = run(swapped, images, colour_model)
    assert result.agreement is not None
    assert result.reference is not None
    assert (result.agreement.images, result.agreement.equal) == (4, 2)
    assert (result.model.accuracy1.successes, result.reference.accuracy1.successes) == (1, 3)
    assert result.agreement.sqnr < 10
    itself = run(colour_model, images, colour_model).agreement
    assert itself is not None
    assert (itself.equal, itself.noise, itself.divergence) == (4, 0.0, 0.0)


def test_a_reference_may_prepare_images_in_its_own_way(
    colour_model: Path, colour_classifier: Callable[..., Path], images: LabelledImages, tmp_path: Path
) -> None:
    raw = colour_classifier(tmp_path / "raw.onnx", uint8=True, batch=3)
    with OnnxRuntimeRunner(raw) as runner, OnnxRuntimeRunner(colour_model) as reference:
        assert runner.metadata.preprocessing is not None
        result = evaluate(
            runner,
            runner.metadata.preprocessing,
            images,
            reference=reference,
            reference_spec=reference.metadata.preprocessing,
            batch_size=3,
            quiet=True,
        )
    assert result.agreement is not None
    assert result.agreement.equal == 4
    assert result.agreement.sqnr > 80


def test_images_that_only_one_of_two_models_can_use_are_no_silent_shift(
    colour_model: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """The second image is smaller than the reference's crop, which may not be resized."""
    Image.new("RGB", (5, 5), (0, 255, 0)).save(images.sources[1].name)
    with OnnxRuntimeRunner(colour_model) as runner:
        spec = runner.metadata.preprocessing
        assert spec is not None
        strict = replace(spec, resize=None)
        with pytest.raises(InputError, match="can be prepared for one of the two models only"):
            evaluate(runner, spec, images, reference=runner, reference_spec=strict, batch_size=2, quiet=True)
        last = replace(images, sources=images.sources[:2], labels=images.labels[:2])
        with pytest.raises(InputError, match="can be prepared for one of the two models only"):
            evaluate(runner, spec, last, reference=runner, reference_spec=strict, batch_size=1, quiet=True)


class Fixed:
    """Gives the same outputs for every image."""

    path = "fixed.onnx"
    input = TensorSpec("x", (None, 3, 8, 8), "float32")
    batch_range = (1, None)

    def __init__(self, **outputs: list[float]) -> None:
        self.outputs = outputs

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.tile(np.array(value), (len(batch), 1)) for name, value in self.outputs.items()}


def test_models_that_cannot_be_compared_class_by_class_are_refused(colour_model: Path, images: LabelledImages) -> None:
    with OnnxRuntimeRunner(colour_model) as reference:
        spec = reference.metadata.preprocessing
        assert spec is not None
        four: Any = Fixed(logits=[0.0, 1.0, 2.0, 3.0])
        with pytest.raises(BadModelError, match=r"fixed\.onnx: has 4 classes, its reference 3"):
            evaluate(four, spec, images, reference=reference, quiet=True)
        best: Any = Fixed(top_k_values=[0.9], top_k_indices=[1])
        with pytest.raises(BadModelError, match="returns only its best classes"):
            evaluate(best, spec, images, reference=reference, quiet=True)


def test_top_k_models_are_evaluated_and_say_how_many_classes_they_give(images: LabelledImages) -> None:
    runner: Any = Fixed(top_k_values=[0.9, 0.1], top_k_indices=[1, 0])
    spec = Preprocessing(resize=8, crop=(8, 8))
    result = evaluate(runner, spec, images, quiet=True)
    assert result.classes_given == 2
    assert result.model.top1 == [False, True, False, True]
    assert result.model.top5 == [True, True, False, True]


class Counting(Fixed):
    """Counts its runs."""

    runs = 0

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.runs += 1
        return super().run(batch)


def test_several_models_share_one_pass_and_one_reference(images: LabelledImages) -> None:
    """Each result is what the model alone gives; the reference runs once per batch."""
    spec = Preprocessing(resize=8, crop=(8, 8))
    first: Any = Fixed(logits=[3.0, 0.0, 0.0])
    second: Any = Fixed(logits=[0.0, 4.0, 0.0])
    reference: Any = Counting(logits=[3.0, 1.0, 0.0])
    results = evaluate_models([first, second], spec, images, reference=reference, batch_size=2, quiet=True)
    assert reference.runs == 2
    for runner, result in zip((first, second), results, strict=True):
        alone = evaluate(runner, spec, images, reference=reference, batch_size=2, quiet=True)
        assert figures_of(result) == figures_of(alone)
        assert (result.names, result.labels, result.model) == (alone.names, alone.labels, alone.model)
    assert [result.model.top1.count(True) for result in results] == [1, 2]
    assert [result.agreement and result.agreement.equal for result in results] == [4, 0]


def test_without_labels_there_is_agreement_and_no_accuracy(images: LabelledImages) -> None:
    spec = Preprocessing(resize=8, crop=(8, 8))
    runner: Any = Fixed(logits=[3.0, 0.0, 0.0])
    reference: Any = Fixed(logits=[2.0, 1.0, 0.0])
    result = evaluate(runner, spec, replace(images, labels=()), reference=reference, quiet=True)
    assert (result.labels, result.model.top1, accuracies_of(result), paired_of(result)) == ([], [], {}, {})
    assert figures_of(result)["agreement"] == 100.0
    assert [line.split()[0] for line in lines_of(result)] == ["agreement", "KL", "score"]
    evidence = evidence_of(result)
    assert (evidence.labels, evidence.reference_right, evidence.paired.lost) == ([0] * 4, 1.0, 0)
    assert evidence.reference_confidence is None  # nothing says whether its confidence is deserved
