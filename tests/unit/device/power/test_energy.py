from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.power.energy import Energy, above_idle, energy_between, window_for
from googlenet_deploy.device.power.meter import Limits, NotMeasured, Rail
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.system.sysfs import LostReadingError

from .meters import ScriptedMeter


def record(meter: ScriptedMeter, clock: Any, readings: int) -> Sampler:
    sampler = Sampler(meter, clock)
    for _ in range(readings):
        if not sampler.sample():
            break
        clock.advance(meter.period)
    return sampler


def measured(answer: object) -> Energy:
    assert isinstance(answer, Energy), answer
    return answer


@settings(deadline=None)
@given(
    st.lists(st.floats(0.1, 100), min_size=30, max_size=60),
    st.floats(0.01, 0.2),
    st.floats(1.2, 1.4),
)
def test_a_window_is_the_sum_of_its_parts(watts: list[float], start: float, end: float) -> None:
    meter = ScriptedMeter(iter(()))
    sampler = Sampler(meter, clock=lambda: 0.0)
    sampler.trace.times = [index * meter.period for index in range(len(watts))]
    sampler.trace.values = [{"A": value} for value in watts]
    whole = measured(energy_between(sampler.trace, meter, start, end))
    times = np.array([start, *[time for time in sampler.trace.times if start < time < end], end])
    exact = np.interp(times, sampler.trace.times, watts)
    assert whole.joules == pytest.approx(float(np.sum(np.diff(times) * (exact[1:] + exact[:-1]) / 2)))
    assert min(watts) * (end - start) <= whole.joules * (1 + 1e-9)
    assert whole.joules <= max(watts) * (end - start) * (1 + 1e-9)


def test_constant_power_is_exact_and_its_uncertainty_is_the_meters(clock: Any) -> None:
    sampler = record(ScriptedMeter(itertools.repeat(10)), clock, 60)
    energy = measured(sampler.energy(100.3, 102.3))
    assert energy.joules == pytest.approx(20.0)
    assert energy.sampling == pytest.approx(0.0, abs=1e-12)
    assert energy.quantisation == pytest.approx(0.001 / math.sqrt(12) * 2.0)
    assert energy.accuracy == pytest.approx((0.01 * 20 + 0.02 * 2.0) / math.sqrt(3))
    assert energy.uncertainty == pytest.approx(2 * math.hypot(energy.quantisation, energy.accuracy))


def test_a_restless_power_is_less_certain_and_more_readings_help(clock: Any) -> None:
    sampler = record(ScriptedMeter(itertools.cycle((8, 12))), clock, 400)
    short, long = measured(sampler.energy(100.01, 102.01)), measured(sampler.energy(100.01, 118.01))
    assert short.sampling / short.joules == pytest.approx(3 * long.sampling / long.joules, rel=0.05)
    assert short.sampling == pytest.approx(2.0 / math.sqrt(40) * 2.0, rel=0.05)


def test_a_counters_edges_are_interpolated(clock: Any) -> None:
    meter = ScriptedMeter((7.0 * 0.05 * step for step in itertools.count()), counts_energy=True, lag=0.1)
    energy = measured(record(meter, clock, 100).energy(100.123, 102.123))
    assert energy.joules == pytest.approx(14.0)
    assert energy.sampling == pytest.approx(7.0 * 0.1 / math.sqrt(6))
    assert energy.quantisation == pytest.approx(0.001 / math.sqrt(6))


def test_limits_that_nobody_states_are_left_out(clock: Any) -> None:
    rails = (Rail("A", True, Limits(None, 0.0, 0.001)),)
    energy = measured(record(ScriptedMeter(itertools.repeat(10), rails), clock, 60).energy(100.3, 102.3))
    assert energy.accuracy is None
    assert energy.uncertainty == pytest.approx(2 * energy.quantisation)


def test_limits_of_several_rails_add_up(clock: Any) -> None:
    rails = tuple(Rail(name, name != "C", Limits(0.01, 0.0, 0.0)) for name in "ABC")
    values = itertools.repeat({"A": 1.0, "B": 2.0, "C": 50.0})
    energy = measured(record(ScriptedMeter(values, rails), clock, 60).energy(100.0, 102.0))
    assert energy.joules == pytest.approx(6.0)
    assert energy.rails["C"] == pytest.approx(100.0)
    assert energy.accuracy == pytest.approx(0.01 * 6.0 / math.sqrt(3))


def test_idle_is_subtracted_for_the_same_time_and_its_offset_cancels(clock: Any) -> None:
    values = itertools.chain(itertools.repeat(3, 100), itertools.repeat(10))
    sampler = record(ScriptedMeter(values), clock, 250)
    idle, busy = measured(sampler.energy(100.0, 102.0)), measured(sampler.energy(106.0, 110.0))
    joules, uncertainty = above_idle(busy, idle)
    assert joules == pytest.approx((10 - 3) * 4.0)
    parts = (busy.quantisation, idle.quantisation * 2, 0.01 * 28 / math.sqrt(3))
    assert uncertainty == pytest.approx(2 * math.sqrt(sum(part**2 for part in parts)))


@pytest.mark.parametrize(
    ("period", "lag", "seconds", "expected"),
    [(0.05, 0.0, 2.0, 2.0), (0.05, 0.0, 0.2, 1.0), (0.05, 1.0, 2.0, 10.0), (0.3, 0.0, 2.0, 6.0)],
)
def test_a_window_too_short_for_the_sampler_is_lengthened(
    period: float, lag: float, seconds: float, expected: float
) -> None:
    meter = ScriptedMeter(iter(()), lag=lag)
    meter.period = period  # type: ignore[misc]
    assert window_for(meter, seconds) == pytest.approx(expected)


def lost(number: int) -> Iterator[object]:
    return itertools.repeat(LostReadingError("/sys/power: cannot be read: no such file or directory"), number)


def test_single_lost_readings_are_bridged_and_told(clock: Any) -> None:
    values = itertools.chain(itertools.repeat(10, 30), lost(2), itertools.repeat(10))
    energy = measured(record(ScriptedMeter(values), clock, 100).energy(100.1, 104.0))
    assert energy.joules == pytest.approx(39.0)
    assert energy.lost == 2
    assert any("readings failed" in note and "no such file" in note for note in energy.notes)


def test_a_long_silence_is_no_measurement(clock: Any) -> None:
    values = itertools.chain(itertools.repeat(10, 30), lost(12), itertools.repeat(10))
    answer = record(ScriptedMeter(values), clock, 100).energy(100.1, 104.0)
    assert isinstance(answer, NotMeasured)
    assert "gave no reading for 0.65 s" in answer.reason
    assert "no such file" in answer.reason


def test_a_meter_that_ends_inside_the_window_is_no_measurement(clock: Any) -> None:
    answer = record(ScriptedMeter(itertools.repeat(10, 30)), clock, 100).energy(100.1, 104.0)
    assert isinstance(answer, NotMeasured)
    assert answer.reason == "the readings of scripted do not reach across the window (scripted: ended)"


@pytest.mark.parametrize(
    ("readings", "start", "end", "words"),
    [
        (100, 99.0, 102.0, "do not reach"),
        (100, 101.0, 101.0, "empty"),
        (100, 101.0, 101.3, "are needed"),
        (1, 100.0, 100.5, "do not reach"),
    ],
)
def test_windows_without_enough_readings(readings: int, start: float, end: float, words: str, clock: Any) -> None:
    meter = ScriptedMeter(itertools.chain(itertools.repeat(10, readings)))
    sampler = record(meter, clock, readings)
    sampler.sample()
    answer = sampler.energy(start, end)
    assert isinstance(answer, NotMeasured)
    assert words in answer.reason


def test_the_thread_samples_until_it_is_left() -> None:
    enough = threading.Event()
    reads = itertools.count()
    meter = ScriptedMeter(itertools.repeat(10), after_read=lambda: enough.set() if next(reads) > 5 else None)
    meter.period = 0.0  # type: ignore[misc]
    with Sampler(meter) as sampler:
        assert enough.wait(30)
        assert meter.closed == 0
    assert meter.closed == 1
    assert not sampler._thread.is_alive()
    assert len(sampler.trace.times) >= 5
    assert sampler.trace.times == sorted(sampler.trace.times)


def test_a_window_begins_behind_a_reading() -> None:
    meter = ScriptedMeter(itertools.repeat(10))
    meter.period = 0.0  # type: ignore[misc]
    with Sampler(meter) as sampler:
        start = sampler.begin()
        assert sampler.trace.times[0] <= start


def test_a_meter_that_dies_ends_the_thread_and_wakes_who_waits() -> None:
    meter = ScriptedMeter(itertools.repeat(10, 3))
    meter.period = 0.0  # type: ignore[misc]
    with Sampler(meter) as sampler:
        sampler.wait_for(math.inf)
        assert sampler.trace.ended == "scripted: ended"


def test_a_waiting_meter_is_closed_ahead_of_its_thread() -> None:
    released = threading.Event()
    meter = ScriptedMeter(itertools.repeat(10), paced=True, after_read=lambda: (released.wait(30), None)[1])
    close = meter.close

    def close_and_release() -> None:
        close()
        meter.values = iter(())
        released.set()

    meter.close = close_and_release  # type: ignore[method-assign]
    with Sampler(meter) as sampler:
        pass
    assert meter.closed == 1
    assert not sampler._thread.is_alive()


def test_no_meter_gives_its_reason_and_never_a_number() -> None:
    with NoSampler(NotMeasured("there is none", "buy one")) as sampler:
        assert sampler.energy(0.0, 1.0) == NotMeasured("there is none", "buy one")
    assert sampler.meter is None
