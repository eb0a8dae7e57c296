from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.images.pipeline import Batch
from googlenet_deploy.device.runner.overlap import AsyncRunner, run_overlapped
from googlenet_deploy.device.runner.protocol import TensorSpec, concatenate, fixed_batch, run_any_batch
from googlenet_deploy.errors import BadModelError, UsageError


class Adder:
    """Gives each image's sum, and remembers the batches that it got."""

    path = "adder.onnx"

    def __init__(self, batch: int | None, dtype: str = "float32") -> None:
        self.input = TensorSpec("x", (batch, None, 2, 2), dtype)
        self.batches: list[int] = []
        self.batch_range = (batch or 1, batch)

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(batch))
        return {"sum": batch.sum(axis=(1, 2, 3)), "constant": np.zeros(len(batch) + 1), "scalar": np.float32(3)[()]}


def images(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1) * np.ones((1, 3, 2, 2), np.float32)


@given(st.integers(1, 20), st.none() | st.integers(1, 9))
def test_any_number_of_images_runs_in_the_models_own_batches(count: int, batch: int | None) -> None:
    runner: Any = Adder(batch)
    outputs = run_any_batch(runner, images(count))
    np.testing.assert_array_equal(outputs["sum"], np.arange(count) * 12)
    assert list(outputs) == ["sum"]  # what has no row per image is left out
    assert fixed_batch(runner) == batch
    assert set(runner.batches) == {batch or count}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_model_of_one_image_may_leave_its_batch_out(count: int) -> None:
    runner: Any = Adder(1)
    runner.run = lambda batch: {"classes": batch[0, :, 0, 0] + np.float32(1), "scalar": np.float32(3)[()]}
    outputs = run_any_batch(runner, images(count))
    assert list(outputs) == ["classes"]
    np.testing.assert_array_equal(outputs["classes"], [[index + 1.0] * 3 for index in range(count)])


class InSlots(Adder):
    """The same, two batches at a time."""

    slots = 2

    def submit(self, batch: np.ndarray) -> int:
        self.batches.append(len(batch))
        self.begun = [*getattr(self, "begun", []), batch]
        return len(self.begun) - 1

    def collect(self, ticket: int) -> dict[str, np.ndarray]:
        return self.run(self.begun[ticket])


@pytest.mark.parametrize(("size", "counts"), [(None, [1, 3, 1]), (1, [1, 2, 1]), (2, [2, 1, 2])])
def test_slots_hand_out_what_has_a_row_per_image_too(size: int | None, counts: list[int]) -> None:
    runner: Any = InSlots(size)
    assert isinstance(runner, AsyncRunner)
    batches = [Batch(images(count), ["x"] * count) for count in counts]
    for batch, outputs in run_overlapped(runner, batches):
        assert list(outputs) == ["sum"]
        np.testing.assert_array_equal(outputs["sum"], np.arange(len(batch.array)) * 12)


@pytest.mark.parametrize(
    ("batch", "outputs"),
    [
        (None, {"y": np.zeros(5)}),  # the batch varies: five values whatever the images are
        (2, {"y": np.zeros(5)}),
        (1, {"y": np.float32(3)[()]}),
        (1, {"y": np.zeros((3, 5))}),
    ],
)
def test_constants_are_not_the_row_of_one_image(batch: int | None, outputs: dict[str, np.ndarray]) -> None:
    runner: Any = Adder(batch)
    runner.run = lambda batch: outputs
    with pytest.raises(BadModelError, match=r"adder\.onnx: no output has one row for each image of a batch of"):
        run_any_batch(runner, images(1))


def test_outputs_without_a_row_per_image_are_refused() -> None:
    runner: Any = Adder(None)
    runner.run = lambda batch: {"y": np.zeros((1, 5))}
    with pytest.raises(BadModelError, match=r"adder\.onnx: no output .* of a batch of 2: y \(1, 5\)"):
        run_any_batch(runner, images(2))


@pytest.mark.parametrize(
    ("dtype", "batch", "words"),
    [
        ("float32", np.zeros((1, 3, 2, 3), np.float32), r"float32 \(any, 2, 2\).*float32 \(3, 2, 3\)"),
        ("float32", np.zeros((1, 3, 2, 2), np.uint8), r"float32 .*prepared as uint8"),
        ("float32", np.zeros((1, 3, 2), np.float32), r"float32 .*float32 \(3, 2\)$"),
        ("tensor(string)", np.zeros((1, 3, 2, 2), np.float32), r"tensor\(string\) \(any"),
    ],
)
def test_images_that_do_not_fit_are_refused(dtype: str, batch: np.ndarray, words: str) -> None:
    runner: Any = Adder(None, dtype)
    with pytest.raises(UsageError, match=rf"adder\.onnx: accepts images as {words}") as caught:
        run_any_batch(runner, batch)
    assert caught.value.remedy is not None
    assert runner.batches == []


def test_a_scalar_output_of_several_batches_is_no_row() -> None:
    runner: Any = Adder(1)
    runner.run = lambda batch: {"y": np.float32(batch.sum())}
    with pytest.raises(BadModelError, match=r"no output has one row for each image of a batch of 1: y \(\)"):
        run_any_batch(runner, images(3))
    parts = [{"y": np.ones((1, 2)), "s": np.array(5.0)}, {"y": np.zeros((1, 2)), "s": np.array(6.0)}]
    joined = concatenate(parts)
    assert joined["y"].shape == (2, 2)
    assert joined["s"] == 5.0
