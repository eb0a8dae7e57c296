"""The search alone, on rounds that are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.tune.halving import Halving, TuneOutcome
from googlenet_deploy.device.tune.measure import SettingRound
from googlenet_deploy.device.tune.options import TuneBudget, TuneOptions
from googlenet_deploy.device.tune.ranking import Ranking, TuneTrial
from googlenet_deploy.device.tune.tuned_file import TunableModel, TuneSetting
from googlenet_deploy.errors import DeviceError

MODELS = {
    name: TunableModel(f"{name}.engine", "0" * 64, size, name)
    for name, size in (("fp32", 30), ("fp16", 15), ("int8", 8))
}


def trial(precision: str, batch: int = 1, agreement: float | None = None) -> TuneTrial:
    return TuneTrial(TuneSetting(f"{precision}.engine", "tensorrt", "GPU", batch), MODELS[precision], agreement)


class Bench:
    """Rounds with a median of `truth` milliseconds per batch and normal noise of each round and of the machine."""

    def __init__(
        self,
        truth: Callable[[TuneSetting], float],
        *,
        noise: float = 0.0,
        watts: Callable[[TuneSetting], float] | None = None,
        tail: Callable[[TuneSetting], float] = lambda _setting: 1.0,
        drift: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.truth, self.noise, self.watts, self.tail, self.drift = truth, noise, watts, tail, drift
        self.generator = np.random.default_rng(seed)
        self.seconds, self.calls = 0.0, 0

    def __call__(self, setting: TuneSetting, stage: int, seconds: float, runs: int, warm_up: float) -> SettingRound:
        self.seconds, self.calls = self.seconds + seconds, self.calls + 1
        median = self.truth(setting) * np.exp(self.noise * self.generator.normal() + self.drift * self.calls)
        times = np.full(40, median)
        times[-4:] *= self.tail(setting)
        rate = 1000 * setting.batch / median
        energy = None if self.watts is None else 1000 * self.watts(setting) / rate
        return SettingRound(stage, times, rate, energy, "no meter")


def search(
    bench: Any, trials: list[TuneTrial], objective: str = "latency", options: TuneOptions | None = None, **budget: float
) -> TuneOutcome:
    return Halving(bench, Ranking(objective, TuneBudget(**budget)), options or TuneOptions(), lambda _line: None).run(
        trials
    )


def test_large_batches_do_not_make_a_round_longer_than_its_length() -> None:
    asked: dict[tuple[int, bool], set[int]] = {}

    class Counting(Bench):
        def __call__(self, setting: TuneSetting, stage: int, seconds: float, runs: int, warm_up: float) -> SettingRound:
            asked.setdefault((setting.batch, stage == 1), set()).add(runs)
            return super().__call__(setting, stage, seconds, runs, warm_up)

    search(Counting(lambda setting: setting.batch), [trial("fp16", batch) for batch in (1, 2, 4, 8, 16, 32)], "rate")
    first, last = ({batch: runs for (batch, early), runs in asked.items() if early == which} for which in (True, False))
    assert first == {1: {3}, 2: {2}, 4: {2}, 8: {2}, 16: {2}, 32: {2}}
    assert all(runs == {max(2, -(-7 // batch))} for batch, runs in last.items() if runs != first[batch])


def names(trials: list[TuneTrial]) -> set[str]:
    return {each.setting.model for each in trials}


def test_the_fastest_is_found_in_a_fraction_of_a_grids_time() -> None:
    trials = [trial("fp16", batch) for batch in range(1, 61)]
    bench = Bench(lambda setting: 5 + abs(setting.batch - 41), noise=0.03)
    outcome = search(bench, trials)
    assert outcome.chosen is not None
    assert outcome.chosen.setting.batch == 41
    assert outcome.reason == "the best, told apart from the others of the last stage"
    assert outcome.chosen.verdict == "chosen"
    assert not outcome.ties
    # A grid of five rounds of two seconds each; warm-up apart.
    assert bench.seconds < 60 * 10 / 4
    assert all(each.verdict for each in trials)
    assert trials[0].verdict == "behind in stage 1"


@pytest.mark.parametrize("seed", range(8))
def test_noise_and_drift_do_not_mislead_the_last_stage(seed: int) -> None:
    """8 % between the two best, 3 % of noise per round, and a machine that gets slower all the time."""
    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8, 16, 32)]
    times = {1: 10.0, 2: 10.8, 4: 13.0, 8: 15.0, 16: 20.0, 32: 30.0}
    bench = Bench(lambda setting: times[setting.batch], noise=0.03, drift=0.004, seed=seed)
    outcome = search(bench, trials)
    assert outcome.chosen is not None
    near = {each.setting.batch for each in (outcome.chosen, *outcome.ties)}
    assert 1 in near
    assert outcome.chosen.setting.batch in (1, 2)
    assert not near & {8, 16, 32}


def test_two_that_cost_the_same_tie_and_that_is_said() -> None:
    trials = [trial("fp32"), trial("fp16")]
    outcome = search(Bench(lambda _setting: 4.0, noise=0.02, seed=1), trials)
    assert outcome.chosen is trials[0]  # the wider type
    assert outcome.ties == [trials[1]]
    assert outcome.reason == "ties with 1 other setting"
    assert trials[1].verdict == "ties"
    assert len(trials[0].last) == 8  # it tried to tell them apart


def test_two_that_are_the_same_for_certain_end_early() -> None:
    bench = Bench(lambda _setting: 4.0, noise=0.001)
    outcome = search(bench, [trial("fp32"), trial("fp16")])
    assert outcome.ties
    assert bench.calls == 2 + 2 * 3


def test_int8_is_chosen_where_it_is_faster() -> None:
    times = {"fp32.engine": 3.0, "fp16.engine": 2.0, "int8.engine": 1.5}
    outcome = search(Bench(lambda setting: times[setting.model], noise=0.02), [trial(name) for name in MODELS])
    assert outcome.chosen is not None
    assert outcome.chosen.model.precision == "int8"


@pytest.mark.parametrize("int8", [2.0, 2.4])
def test_int8_is_not_kept_where_it_is_not_faster(int8: float) -> None:
    times = {"fp32.engine": 3.0, "fp16.engine": 2.0, "int8.engine": int8}
    outcome = search(Bench(lambda setting: times[setting.model], noise=0.02, seed=3), [trial(name) for name in MODELS])
    assert outcome.chosen is not None
    assert outcome.chosen.model.precision == "fp16"


def test_int8_that_ties_but_takes_less_energy_is_kept() -> None:
    trials = [trial("fp16", agreement=99.0), trial("int8", agreement=99.5)]
    bench = Bench(lambda _s: 2.0, noise=0.01, watts=lambda setting: 5.0 if setting.model == "int8.engine" else 8.0)
    assert search(bench, trials).chosen is trials[1]


def test_int8_that_ties_in_everything_gives_way_and_that_is_said() -> None:
    trials = [trial("fp16", agreement=99.0), trial("int8", agreement=99.5)]  # the tie alone would go to INT8
    outcome = search(Bench(lambda _s: 2.0, noise=0.01, watts=lambda _s: 8.0), trials)
    assert outcome.chosen is trials[0]
    assert outcome.ties == [trials[1]]
    assert "INT8 is neither faster nor cheaper than FP16" in outcome.reason


def test_int8_is_held_against_fp16_even_where_other_int8_settings_crowd_the_front() -> None:
    def crowd() -> list[TuneTrial]:
        return [trial("int8", batch) for batch in range(1, 30)] + [trial("fp16", 1)]

    trials, times = crowd(), {"int8.engine": 2.0, "fp16.engine": 2.02}
    outcome = search(Bench(lambda setting: times[setting.model], noise=0.01), trials)
    assert outcome.chosen is not None
    assert trials[-1].rounds[-1].stage == outcome.chosen.rounds[-1].stage, "FP16 was dropped before the last stage"
    for seed in range(5):
        level = search(Bench(lambda _setting: 2.0, noise=0.002, seed=seed), crowd())
        assert level.chosen is not None
        assert level.chosen.model.precision == "fp16"


def test_least_energy_is_not_the_fastest() -> None:
    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8)]
    watts = {1: 10.0, 2: 9.0, 4: 7.0, 8: 9.5}
    bench = Bench(lambda setting: 2.0 * setting.batch, noise=0.01, watts=lambda setting: watts[setting.batch])
    outcome = search(bench, trials, "energy")
    assert outcome.chosen is not None
    assert outcome.chosen.setting.batch == 4
    result = outcome.chosen.result()
    assert result.millijoules_per_image is not None
    # 7 W at 500 images/s.
    assert result.millijoules_per_image.value == pytest.approx(14.0, rel=0.02)
    assert result.images_per_second.value == pytest.approx(500.0, rel=0.02)


def test_the_limit_of_latency_is_for_95_percent_of_the_batches() -> None:
    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8)]
    rates = {1: 3.0, 2: 4.0, 4: 6.0, 8: 9.0}  # ms per batch: larger batches have more images/s
    tail = {1: 1.0, 2: 1.2, 4: 3.0, 8: 1.0}
    bench = Bench(lambda setting: rates[setting.batch], tail=lambda setting: tail[setting.batch])
    outcome = search(bench, trials, "rate", max_latency=8.0)
    assert outcome.chosen is not None
    assert outcome.chosen.setting.batch == 2  # the median of batch 4 is 6 ms, its 95th percentile 18 ms
    assert outcome.chosen.p95 == pytest.approx(4.8)


def test_the_best_near_a_limit_does_not_push_out_what_holds_it() -> None:
    """Twenty settings just over the limit, which short rounds let pass, and one below it that costs more."""
    trials = [trial("fp16", batch) for batch in range(1, 22)]
    bench = Bench(lambda setting: 4.0 if setting.batch == 21 else 5.2 + 0.001 * setting.batch)

    def with_energy(setting: TuneSetting, *arguments: Any) -> SettingRound:
        measured = bench(setting, *arguments)
        energy = 50.0 if setting.batch == 21 else 10.0
        return SettingRound(measured.stage, measured.milliseconds, measured.rate, energy)

    outcome = search(with_energy, trials, "energy", max_latency=5.0)
    assert outcome.chosen is not None
    assert outcome.chosen.setting.batch == 21


def test_a_budget_that_nothing_holds_names_the_nearest() -> None:
    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8)]
    outcome = search(Bench(lambda setting: 3.0 * setting.batch, noise=0.01), trials, "rate", max_latency=2.0)
    assert outcome.chosen is None
    assert outcome.nearest is not None
    assert outcome.nearest.setting.batch == 1
    assert outcome.nearest.verdict == "nearest to the limits"


def test_limits_against_each_other_name_a_compromise() -> None:
    """At most 10 ms allows batch 2, 300 images/s need batch 8."""
    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8)]
    times = {1: 5.0, 2: 9.0, 4: 16.0, 8: 25.0}
    outcome = search(Bench(lambda s: times[s.batch]), trials, "rate", max_latency=10.0, min_rate=300.0)
    assert outcome.chosen is None
    assert outcome.nearest is not None
    # 10 ms and 222 images/s: ln(300/222) = 0.30; batch 8: ln(25/10) = 0.92.
    assert outcome.nearest.setting.batch == 2


def test_the_smallest_model_that_holds_the_limits_then_its_fastest_setting() -> None:
    times = {"fp32.engine": 1.0, "fp16.engine": 2.0, "int8.engine": 3.0}
    trials = [trial(name, batch) for name in MODELS for batch in (1, 2)]
    outcome = search(Bench(lambda s: times[s.model] * s.batch), trials, "size", max_latency=2.5)
    assert outcome.chosen is not None
    assert (outcome.chosen.model.precision, outcome.chosen.setting.batch) == ("fp16", 1)
    outcome = search(Bench(lambda s: times[s.model] * s.batch), [trial(n, b) for n in MODELS for b in (1, 2)], "size")
    assert outcome.chosen is not None
    assert (outcome.chosen.model.precision, outcome.chosen.setting.batch) == ("int8", 1)


def test_what_fails_is_dropped_with_its_reason() -> None:
    bench = Bench(lambda setting: float(setting.batch))

    def measure(setting: TuneSetting, *arguments: Any) -> SettingRound:
        if setting.batch == 1:
            raise DeviceError("out of device memory")
        if setting.batch == 2:
            raise MemoryError
        return bench(setting, *arguments)

    trials = [trial("fp16", batch) for batch in (1, 2, 4, 8)]
    outcome = search(measure, trials)
    assert outcome.chosen is trials[2]
    assert [each.verdict for each in trials[:2]] == ["out of device memory", "out of memory"]


def test_one_lost_reading_is_repeated_and_a_dead_meter_drops_the_setting() -> None:
    lost: list[int] = []
    bench = Bench(lambda setting: 2.0 * setting.batch, watts=lambda _s: 5.0)

    def measure(setting: TuneSetting, *arguments: Any) -> SettingRound:
        measured = bench(setting, *arguments)
        if setting.batch == 1 or (setting.batch == 2 and not lost):
            lost.append(setting.batch)
            return SettingRound(measured.stage, measured.milliseconds, measured.rate, None, "no reading for 2 s")
        return measured

    trials = [trial("fp16", batch) for batch in (2, 1)]
    outcome = search(measure, trials, "energy")
    assert outcome.chosen is trials[0]
    assert trials[1].failed
    assert trials[1].verdict == "its energy was not measured: no reading for 2 s"


def test_when_all_fail_there_is_nothing_to_choose() -> None:
    def measure(*_: Any) -> SettingRound:
        raise DeviceError("no GPU")

    trials = [trial("fp16"), trial("int8")]
    outcome = search(measure, trials)
    assert (outcome.chosen, outcome.nearest) == (None, None)
    assert all(each.failed for each in trials)


def test_a_later_stage_begins_with_what_was_measured_last_and_is_still_open() -> None:
    measured: dict[int, list[int]] = {}

    class Listing(Bench):
        def __call__(self, setting: TuneSetting, stage: int, seconds: float, runs: int, warm_up: float) -> SettingRound:
            measured.setdefault(stage, []).append(setting.batch)
            return super().__call__(setting, stage, seconds, runs, warm_up)

    search(Listing(lambda setting: 5 + abs(setting.batch - 41)), [trial("fp16", batch) for batch in range(1, 61)])
    assert measured[1] == list(range(1, 61))
    assert measured[2] == sorted(measured[2], reverse=True)
    assert measured[3] == sorted(measured[3])
