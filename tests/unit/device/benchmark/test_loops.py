from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from fake_clock import FakeClock

from googlenet_deploy.device.benchmark import loops
from googlenet_deploy.device.benchmark.inputs import make_batches, synthetic_inputs
from googlenet_deploy.device.benchmark.loops import Length, end_to_end_round, run_round
from googlenet_deploy.device.benchmark.streams import SlotStreams, ThreadStreams
from googlenet_deploy.device.runner.protocol import ScopedTimes
from googlenet_deploy.errors import BadModelError

from .conftest import SMALL, TimedModel


@pytest.fixture(scope="module")
def batches() -> Any:
    return make_batches(synthetic_inputs(0, SMALL), SMALL, "pillow", 2)


class GpuModel(TimedModel):
    """Tells its scopes apart."""

    def run_timed(self, batch: Any) -> tuple[dict[str, Any], ScopedTimes]:
        return self.run(batch), ScopedTimes(0.001, 0.007, 0.002)


def test_a_round_lasts_until_both_limits_are_reached(clock: FakeClock, batches: Any) -> None:
    by_time = run_round(TimedModel(clock, lambda _: 0.01), batches, Length(1.0, 5), clock)
    assert by_time.runs in (100, 101)
    assert by_time.end - by_time.start == pytest.approx(by_time.runs * 0.01)
    by_runs = run_round(TimedModel(clock, lambda _: 0.01), batches, Length(0.0, 5), clock)
    assert by_runs.runs == 5
    assert by_runs.seconds["run"] == pytest.approx([0.01] * 5)
    assert by_runs.seconds["compute"] == pytest.approx([0.01] * 5)
    assert "copy_in" not in by_runs.seconds


def test_the_scopes_of_a_gpu(clock: FakeClock, batches: Any) -> None:
    found = run_round(GpuModel(clock, lambda _: 0.012), batches, Length(0.0, 3), clock)
    assert found.seconds == {
        "copy_in": [0.001] * 3,
        "compute": [0.007] * 3,
        "copy_out": [0.002] * 3,
        "run": pytest.approx([0.012] * 3),
    }


def test_from_encoded_images_to_classes(clock: FakeClock, batches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, predict = loops.prepare, loops.predict

    def slow_prepare(*arguments: Any) -> Any:
        clock.advance(0.002)
        return prepare(*arguments)

    def slow_predict(*arguments: Any) -> Any:
        clock.advance(0.001)
        return predict(*arguments)

    monkeypatch.setattr(loops, "prepare", slow_prepare)
    monkeypatch.setattr(loops, "predict", slow_predict)
    model = TimedModel(clock, lambda _: 0.01)
    found = end_to_end_round(model, batches, SMALL, "pillow", Length(0.0, 4), clock)
    assert model.batches == [2] * 4
    assert found.seconds == {
        "preprocess": pytest.approx([0.004] * 4),
        "postprocess": pytest.approx([0.001] * 4),
        "end_to_end": pytest.approx([0.015] * 4),
    }


class SlotModel(TimedModel):
    """A GPU's runner: batches under way cost their time when they are collected."""

    def __init__(self, clock: FakeClock, slots: int) -> None:
        super().__init__(clock, lambda _: 0.01)
        self.slots = slots
        self.under_way: list[int] = []
        self.most = 0

    def submit(self, batch: Any) -> int:
        self.under_way.append(self.runs)
        self.runs += 1
        self.most = max(self.most, len(self.under_way))
        return self.under_way[-1]

    def collect(self, ticket: int) -> dict[str, Any]:
        assert self.under_way.pop(0) == ticket
        self.clock.advance(0.01)
        return {}


def test_slots_are_kept_busy_and_drained(clock: FakeClock, batches: Any) -> None:
    model = SlotModel(clock, 3)
    with SlotStreams(lambda slots: model, 3) as streams:
        found = streams.round(batches, Length(0.0, 10), clock)
    assert model.closed
    assert model.most == 3
    assert model.under_way == []
    assert found.runs == len(found.seconds["run"]) == 10
    # In the steady state a batch waits for the two ahead of it.
    assert found.seconds["run"][5] == pytest.approx(0.03)
    assert found.end - found.start == pytest.approx(0.1)


class ThreadModel(TimedModel):
    """Notes in which threads it lives, and may break at its nth run."""

    def __init__(self, breaks: int = -1) -> None:
        super().__init__(FakeClock(), lambda _: 0.0)
        self.threads = {threading.get_ident()}
        self.breaks = breaks

    def run(self, batch: Any) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        if self.runs == self.breaks:
            raise BadModelError("model.onnx", "broke")
        return super().run(batch)

    def __exit__(self, *_: object) -> None:
        self.threads.add(threading.get_ident())
        super().__exit__()


def test_each_stream_has_a_runner_in_a_thread_of_its_own(batches: Any) -> None:
    models: list[ThreadModel] = []

    def open_one(slots: int) -> ThreadModel:
        assert slots == 1
        models.append(ThreadModel())
        return models[-1]

    clock = itertools.count()
    with ThreadStreams(open_one, 3) as streams:
        found = streams.round(batches, Length(0.0, 10), lambda: next(clock))
        again = streams.round(batches, Length(0.0, 3), lambda: next(clock))
    assert [model.closed for model in models] == [True] * 3
    assert all(len(model.threads) == 1 for model in models)
    assert len(set.union(*(model.threads for model in models))) == 3
    assert found.runs == len(found.seconds["run"]) == 12  # four each
    assert again.runs == 3
    assert found.start < found.end < again.start


def test_a_stream_that_breaks_is_told_and_every_runner_is_closed(batches: Any) -> None:
    models: list[ThreadModel] = []

    def open_one(slots: int) -> ThreadModel:
        models.append(ThreadModel(breaks=2 if len(models) == 1 else -1))
        return models[-1]

    with pytest.raises(BadModelError, match="broke"), ThreadStreams(open_one, 3) as streams:
        streams.round(batches, Length(0.0, 30), FakeClock())
    assert [model.closed for model in models] == [True] * 3


def test_a_stream_that_cannot_be_opened_closes_those_before(batches: Any) -> None:
    models: list[ThreadModel] = []

    def open_one(slots: int) -> ThreadModel:
        if models:
            raise BadModelError("model.onnx", "no more memory")
        models.append(ThreadModel())
        return models[-1]

    with pytest.raises(BadModelError, match="no more memory"), ThreadStreams(open_one, 2):
        pass
    assert models[0].closed
