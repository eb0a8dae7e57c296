"""Models beside the FP32 one, on images in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import InputError, VerificationError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation
from googlenet_deploy.quantization.quantized_model import round_to_nearest


@pytest.fixture
def sources(picture_folder: Path) -> list[ImageSource]:
    """Ten pictures."""
    return find_images([picture_folder]).images[:10]


@pytest.mark.parametrize("change", [{}, {"channels": "RGB"}, {"layout": "NCHW", "scale": 1 / 255}], ids=str)
def test_images_come_as_the_pipeline_prepares_them(
    mini: Callable, sources: list[ImageSource], specification: Preprocessing, change: dict[str, object]
) -> None:
    spec = replace(specification, **change)
    hold_out = HoldOutEvaluation(mini(), spec, sources)
    expected = np.concatenate([batch.array for batch in ImageBatches(sources, spec, 4)])
    assert np.array_equal(np.concatenate([images for images, _ in hold_out.batches()]), expected)
    assert len(hold_out) == 10
    wanted = TensorSession(mini()).run(expected)["logits"]
    assert np.allclose(np.concatenate([scores for _, scores in hold_out.batches()]), wanted, rtol=1e-4, atol=1e-5)


def test_some_of_the_images(mini: Callable, sources: list[ImageSource], specification: Preprocessing) -> None:
    hold_out = HoldOutEvaluation(mini(), specification, sources)
    assert [len(images) for images, _ in hold_out.batches(5)] == [4, 4]
    assert [len(images) for images, _ in hold_out.batches(99)] == [4, 4, 2]


def test_a_model_is_measured_on_all(
    mini: Callable, mini_table: CalibrationTable, sources: list[ImageSource], specification: Preprocessing
) -> None:
    quantised = round_to_nearest(mini(), mini_table).build()
    hold_out = HoldOutEvaluation(mini(), specification, sources)
    images = np.concatenate([images for images, _ in hold_out.batches()])
    agreement = Agreement()
    agreement.add(*(TensorSession(model).run(images)["logits"] for model in (mini(), quantised)))
    measure = hold_out.measure(quantised)
    assert measure.agreement.sqnr == pytest.approx(agreement.sqnr, abs=0.05)
    assert measure.agreement.equal == agreement.equal
    assert measure.paired is None
    assert hold_out.measure(mini()).agreement.sqnr > 80


def test_labels_pair_the_two(
    mini: Callable, tiny: Callable, sources: list[ImageSource], specification: Preprocessing
) -> None:
    images = np.concatenate([batch.array for batch in ImageBatches(sources, specification, 4)])
    wanted, other = (TensorSession(model).run(images)["logits"].argmax(axis=1) for model in (mini(), tiny(seed=3)))
    labels = {source.name: int(best) for source, best in zip(sources, wanted, strict=True)}
    paired = HoldOutEvaluation(mini(), specification, sources, labels).measure(tiny(seed=3)).paired
    assert paired is not None
    assert (paired.gained, paired.lost, paired.total) == (0, int((wanted != other).sum()), 10)


def test_labels_of_other_classes_are_refused(
    mini: Callable, sources: list[ImageSource], specification: Preprocessing
) -> None:
    with pytest.raises(InputError, match="labels: name the class 6, the model has 6"):
        HoldOutEvaluation(mini(), specification, sources, dict.fromkeys((source.name for source in sources), 6))


def test_unusable_images_are_left_out_and_none_is_an_error(
    mini: Callable, sources: list[ImageSource], specification: Preprocessing
) -> None:
    hold_out = HoldOutEvaluation(mini(), specification, [ImageSource("gone.png"), *sources[:3]])
    assert len(hold_out) == 3
    assert [image.name for image in hold_out.skipped] == ["gone.png"]
    with pytest.raises(InputError, match="none of the hold-out images can be used"):
        HoldOutEvaluation(mini(), specification, [ImageSource("gone.png")])


def test_a_fixed_batch(mini: Callable, sources: list[ImageSource], specification: Preprocessing) -> None:
    hold_out = HoldOutEvaluation(mini(batch=3), specification, sources)
    assert [len(images) for images, _ in hold_out.batches()] == [3, 3, 3, 1]
    assert hold_out.measure(mini(batch=3)).agreement.images == 10


def test_a_model_that_yields_nan_is_refused(
    mini: Callable, sources: list[ImageSource], specification: Preprocessing
) -> None:
    broken = mini()
    for tensor in broken.graph.initializer:
        if tensor.name == "fc.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(6, np.nan, np.float32), tensor.name))
    with pytest.raises(VerificationError, match="yields NaN or infinite values"):
        HoldOutEvaluation(mini(), specification, sources).measure(broken)
