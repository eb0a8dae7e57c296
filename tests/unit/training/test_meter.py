"""Sums of an epoch, read one step late."""

from __future__ import annotations

import math

import pytest
import torch

from googlenet_deploy.errors import GoogLeNetDeployError
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.meter import Copied, EpochMeter, require_finite

ALONE = Processes(0, 1, torch.device("cpu"))


def add(meter: EpochMeter, loss: float, correct: int, stop: bool = False, where: str = "step 1") -> None:
    meter.add(torch.tensor(loss), torch.tensor(correct), 4, stop=stop, where=where)


def test_sums_and_means() -> None:
    meter = EpochMeter(ALONE)
    add(meter, 8.0, 1)
    add(meter, 4.0, 3)
    assert (meter.loss, meter.images) == (8.0, 4)  # the second step is read with the next
    meter.flush()
    meter.flush()
    assert (meter.loss, meter.correct, meter.images) == (12.0, 4, 8)
    assert meter.mean_loss == 1.5
    assert meter.percent_correct == 50.0


def test_an_empty_meter_has_means() -> None:
    assert (EpochMeter(ALONE).mean_loss, EpochMeter(ALONE).percent_correct) == (0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_its_own_step(value: float) -> None:
    meter = EpochMeter(ALONE)
    add(meter, value, 0, where="step 7 of epoch 2")
    with pytest.raises(GoogLeNetDeployError, match=r"the loss in step 7 of epoch 2 is (nan|inf)"):
        add(meter, 1.0, 0, where="step 8 of epoch 2")


def test_a_wish_to_stop_is_seen_with_its_step() -> None:
    meter = EpochMeter(ALONE)
    add(meter, 1.0, 0, stop=True)
    assert not meter.stop
    add(meter, 1.0, 0)
    assert meter.stop
    meter.flush()
    assert meter.stop


def test_require_finite_lets_numbers_pass() -> None:
    require_finite(-1e30, "x")


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]


class Event:
    """Tells what happened to it, and to the numbers that it stands behind."""

    def __init__(self, story: list[str]) -> None:
        self.story = story

    def record(self) -> None:
        self.story.append("recorded")

    def synchronize(self) -> None:
        self.story.append("waited for")


def test_numbers_of_a_gpu_set_out_at_once_and_are_waited_for_by_their_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story: list[str] = []
    here = torch.zeros(4, dtype=torch.float64)

    def pinned(like: torch.Tensor, *, device: str, pin_memory: bool) -> torch.Tensor:
        assert (like.dtype, device, pin_memory) == (torch.float64, "cpu", True)
        story.append("made room")
        return here

    monkeypatch.setattr(torch, "empty_like", pinned)
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(story))
    there = torch.tensor([3.0, 1.0, 4.0, 1.0], dtype=torch.float64).as_subclass(Elsewhere)
    copied = Copied(there)
    assert story == ["made room", "recorded"]
    there.zero_()  # what comes later changes nothing
    assert copied.read() == [3.0, 1.0, 4.0, 1.0]
    assert story == ["made room", "recorded", "waited for"]
