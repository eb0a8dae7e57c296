"""Frames in order, in bounded memory, within the time allowed; no test waits for a clock."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from googlenet_deploy.device.images.pipeline import BATCHES_AHEAD, Batch, Skipped
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.stream.frames import FrameBatches
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.errors import DeviceError, InputError, UsageError

SPEC = Preprocessing(resize=None, crop=(4, 4)).with_uint8_input()


def frame(value: int) -> ImageSource:
    return ImageSource(f"frame {value}", pixels=np.full((4, 4, 3), value, np.uint8))


class Clock:
    """Time that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def batches(source: Any, skipped: list[Skipped] | None = None, **options: Any) -> FrameBatches:
    clock = options.pop("clock", Clock())
    stop = options.pop("stop", None)
    on_skipped = (skipped if skipped is not None else []).append
    return FrameBatches(iter(source), SPEC, FrameOptions(**options), on_skipped=on_skipped, stop=stop, clock=clock)


def values(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [int(value) for value in batch.array[:, 0, 0, 0]]


def full(stream: FrameBatches) -> list[list[int]]:
    return [values(batch) for batch in stream if batch is not None]


def collect(stream: FrameBatches, got: list[int], clock: Clock | None = None) -> None:
    """Adds what comes to a list; while nothing comes, time goes on."""
    for batch in stream:
        if batch is not None:
            got += values(batch)
        elif clock is not None:
            clock.now += 4


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["good", "bad", "unread"]), max_size=24), st.integers(1, 6), st.integers(1, 3))
def test_every_usable_frame_once_in_order_in_full_batches(kinds: list[str], size: int, workers: int) -> None:
    makers: dict[str, Any] = {
        "good": frame,
        "bad": lambda index: ImageSource(f"frame {index}", b"broken"),
        "unread": lambda index: Skipped(f"frame {index}", "cannot be decoded"),
    }
    skipped: list[Skipped] = []
    got = full(
        batches([makers[kind](index) for index, kind in enumerate(kinds)], skipped, batch_size=size, workers=workers)
    )
    assert [value for batch in got for value in batch] == [i for i, kind in enumerate(kinds) if kind == "good"]
    assert all(len(batch) == size for batch in got[:-1])
    assert [item.name for item in skipped] == [f"frame {i}" for i, kind in enumerate(kinds) if kind != "good"]


def test_an_overdue_batch_runs_before_it_is_full() -> None:
    """The source gives its second frame only when the first was answered."""
    clock, answered = Clock(), threading.Event()

    def source() -> Iterator[ImageSource]:
        yield frame(1)
        assert answered.wait(30)
        yield frame(2)

    got = []
    for batch in batches(source(), batch_size=8, max_latency=0.5, clock=clock):
        if batch is None:
            clock.now += 0.1
        else:
            got.append(values(batch))
            answered.set()
    assert got == [[1], [2]]


def test_without_a_limit_a_batch_waits_until_it_is_full() -> None:
    clock, waited = Clock(), threading.Event()

    def source() -> Iterator[ImageSource]:
        yield frame(1)
        assert waited.wait(30)
        yield frame(2)

    got = []
    for batch in batches(source(), batch_size=2, clock=clock):
        if batch is None:
            clock.now += 1e6
            waited.set()
        else:
            got.append(values(batch))
    assert got == [[1, 2]]


def test_a_limit_of_nothing_answers_each_frame_at_once() -> None:
    assert full(batches([frame(i) for i in range(5)], batch_size=4, max_latency=0.0)) == [[i] for i in range(5)]


def test_memory_is_bounded_whatever_the_length() -> None:
    given_out = [0]

    def source() -> Iterator[ImageSource]:
        for index in range(200):
            given_out[0] += 1
            yield frame(index % 250)

    done = 0
    for batch in batches(source(), batch_size=3, workers=2):
        if batch is not None:
            done += len(batch.names)
            assert given_out[0] <= done + BATCHES_AHEAD * 3 + 2 + 1  # and the one that waits for a place
    assert done == 200


def test_a_live_source_is_never_held_up_and_losses_are_counted() -> None:
    finished = threading.Event()

    def source() -> Iterator[ImageSource]:
        for index in range(100):
            yield frame(index)
        finished.set()

    stream = batches(source(), batch_size=1, workers=1, live=True)
    got: list[int] = []
    for batch in stream:
        assert finished.wait(30)  # the consumer sleeps until the camera has given everything
        got += values(batch) if batch is not None else []
    assert stream.dropped == 100 - len(got)
    assert 1 <= len(got) <= BATCHES_AHEAD + 1 + 1
    assert got == sorted(got)


def test_stopping_hands_out_what_was_collected_and_reads_no_more() -> None:
    stop, waiting = threading.Event(), threading.Event()

    def source() -> Iterator[ImageSource]:
        yield frame(1)
        yield frame(2)
        waiting.wait(30)
        yield frame(3)

    stream = batches(source(), batch_size=8, stop=stop)
    got: list[list[int]] = []
    idle = 0
    for batch in stream:
        if batch is not None:
            got.append(values(batch))
        else:
            idle += 1
            if idle > 3:
                stop.set()
                waiting.set()
    assert got == [[1, 2]]


def test_a_source_that_fails_is_told_after_what_it_gave() -> None:
    def source() -> Iterator[ImageSource]:
        yield frame(1)
        raise InputError("camera:0", "gave no more frames")

    got: list[int] = []
    with pytest.raises(InputError, match="gave no more frames"):
        collect(batches(source(), batch_size=8), got)
    assert got == [1]


def test_a_silent_camera_is_given_up_even_if_its_driver_never_returns() -> None:
    clock, never = Clock(), threading.Event()

    def source() -> Iterator[ImageSource]:
        yield frame(1)
        never.wait(30)

    got: list[int] = []
    with pytest.raises(DeviceError, match="no frame came for 10 s"):
        collect(batches(source(), batch_size=1, live=True, silence=10.0, clock=clock), got, clock)
    never.set()
    assert got == [1]


def test_images_are_kept_for_those_who_draw_on_them() -> None:
    (batch,) = [item for item in batches([frame(7)], batch_size=2, keep_images=True) if item is not None]
    assert batch.images is not None
    assert [image.getpixel((0, 0)) for image in batch.images] == [(7, 7, 7)]
    (plain,) = [item for item in batches([frame(7)], batch_size=2) if item is not None]
    assert plain.images is None


def test_grey_networks_get_grey_frames() -> None:
    spec = Preprocessing(resize=None, crop=(4, 4), channels="L", mean=(0.0,), std=(1.0,), scale=1.0)
    stream = FrameBatches(iter([frame(9)]), spec, FrameOptions(), on_skipped=lambda item: None)
    (batch,) = [item for item in stream if item is not None]
    assert batch.array.shape == (1, 1, 4, 4)
    assert (batch.array == 9).all()


def test_files_are_read_too() -> None:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (5, 5, 5)).save(content, "PNG")
    assert full(batches([ImageSource("a.png", content.getvalue())])) == [[5]]


def test_leaving_early_ends_the_threads() -> None:
    before = set(threading.enumerate())
    iterator = iter(batches([frame(i % 200) for i in range(300)], batch_size=2, workers=3))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= before


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": 0}])
def test_nonsense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        batches([], **options)


def test_a_frame_of_the_models_size_goes_through_untouched() -> None:
    spec = Preprocessing(resize=4, crop=(4, 4)).with_frame_input((6, 8))
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    other = np.full((12, 16, 3), 9, np.uint8)
    sources = [
        ImageSource("same", pixels=pixels),
        ImageSource("other", pixels=other),
        ImageSource("more", pixels=other),
    ]
    source = FrameBatches(iter(sources), spec, FrameOptions(batch_size=1), on_skipped=[].append)
    found = [batch for batch in source if batch is not None]
    assert np.shares_memory(found[0].array, pixels), "nothing is copied"
    np.testing.assert_array_equal(found[1].array[0], np.full((6, 8, 3), 9))
    assert (source.resized, source.first_size) == (2, (12, 16))
