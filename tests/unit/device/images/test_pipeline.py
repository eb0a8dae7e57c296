from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from googlenet_deploy.device.images import pipeline
from googlenet_deploy.device.images.pipeline import BATCHES_AHEAD, ImageBatches, available_cores
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import UsageError

SPEC = Preprocessing(resize=None, crop=(4, 4)).with_uint8_input()


def source(value: int, size: int = 4) -> ImageSource:
    """A flat image of one value; one that is smaller than the crop where `size` is below 4."""
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(stream, "PNG")
    return ImageSource(f"image {value}", stream.getvalue())


def values(batches: ImageBatches) -> list[list[int]]:
    return [batch.array[:, 0, 0, 0].tolist() for batch in batches]


@settings(max_examples=40)
@given(st.lists(st.booleans(), max_size=30), st.integers(1, 7), st.integers(1, 4))
def test_every_usable_image_once_in_order_in_full_batches(usable: list[bool], size: int, workers: int) -> None:
    sources = [source(i) if good else ImageSource(f"image {i}", b"broken") for i, good in enumerate(usable)]
    batches = ImageBatches(sources, SPEC, size, workers=workers)
    expected = [i for i, good in enumerate(usable) if good]
    for _ in range(2):  # can be gone through more than once
        got = list(batches)
        assert [name for batch in got for name in batch.names] == [f"image {i}" for i in expected]
        assert [value for batch in got for value in batch.array[:, 0, 0, 0].tolist()] == expected
        assert all(len(batch.names) == len(batch.array) == size for batch in got[:-1])
        assert [item.name for item in batches.skipped] == [f"image {i}" for i, good in enumerate(usable) if not good]


def test_reasons_of_skipped_images(tmp_path: Path) -> None:
    sources = [source(1), ImageSource(str(tmp_path / "none.png")), source(2, size=3), ImageSource("empty", b"")]
    batches = ImageBatches(sources, SPEC, 2)
    assert values(batches) == [[1]]
    assert [item.reason for item in batches.skipped] == [
        "cannot be read: no such file or directory",
        "an image of 3 x 3 pixels is smaller than the crop of 4 x 4",
        "is empty",
    ]


def test_files_are_read_and_grey_networks_get_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(source(9).data or b"")
    spec = Preprocessing(resize=None, crop=(4, 4), channels="L", mean=(0.0,), std=(1.0,), scale=1.0)
    (batch,) = ImageBatches([ImageSource(str(path))], spec, 8)
    assert batch.array.shape == (1, 1, 4, 4)
    assert batch.array.dtype == np.float32
    assert (batch.array == 9).all()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 1, "workers": 0}])
def test_nonsense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ImageBatches([], SPEC, **options)


def test_memory_is_bounded_whatever_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the consumer holds one batch, no more images than promised have been begun."""
    begun: list[str] = []
    original = ImageBatches._prepare

    def counted(self: ImageBatches, item: ImageSource) -> Any:
        begun.append(item.name)
        return original(self, item)

    monkeypatch.setattr(ImageBatches, "_prepare", counted)
    batch_size, workers = 3, 2
    batches = ImageBatches([source(i) for i in range(60)], SPEC, batch_size, workers=workers)
    for number, _ in enumerate(batches, 1):
        assert len(begun) <= number * batch_size + BATCHES_AHEAD * batch_size + workers
    assert len(begun) == 60


def test_leaving_early_stops_the_threads() -> None:
    before = threading.active_count()
    iterator = iter(ImageBatches([source(i) for i in range(50)], SPEC, 2, workers=3))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_that_is_no_images_fault_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pipeline, "preprocess", fail)
    with pytest.raises(MemoryError):
        list(ImageBatches([source(1)], SPEC, 1))


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert available_cores() == 1
    assert ImageBatches([], SPEC, 1).workers == 1
