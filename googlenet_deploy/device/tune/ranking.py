"""Which of two settings is better, and whether the rounds can distinguish them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from googlenet_deploy.device.benchmark.statistics import Interval, interval, over_rounds
from googlenet_deploy.device.tune.measure import SettingRound
from googlenet_deploy.device.tune.models import INT8
from googlenet_deploy.device.tune.options import ENERGY, LATENCY, RATE, SIZE, TuneBudget
from googlenet_deploy.device.tune.tuned_file import TunableModel, TunedFigure, TunedResult, TuneSetting
from googlenet_deploy.errors import DeviceError

P95 = 95.0
# Settings whose ratio is certainly within this band count as equal.
SAME = 0.02
_WIDTHS = {"fp32": 0, "bf16": 1, "fp16": 2}  # the wider type is preferred if nothing else decides


@dataclass(eq=False)
class TuneTrial:
    """A setting under test.

    Attributes:
        setting: The setting.
        model: Its model.
        agreement: Percent of the images with FP32's class; None if it was not measured.
        rounds: All its measurements.
        verdict: Why it was dropped; "" while it remains.
        failed: Whether it was dropped because it does not run.
    """

    setting: TuneSetting
    model: TunableModel
    agreement: Optional[float] = None
    rounds: List[SettingRound] = field(default_factory=list)
    verdict: str = ""
    failed: bool = False

    @property
    def last(self) -> List[SettingRound]:
        """The rounds of the last stage that it reached."""
        return [each for each in self.rounds if each.stage == self.rounds[-1].stage]

    @property
    def p95(self) -> float:
        """95th percentile of the batches' milliseconds, over all rounds of the last stage."""
        return float(np.percentile(np.concatenate([each.milliseconds for each in self.last]), P95))

    @property
    def rate(self) -> float:
        """Images per second: the geometric mean over the rounds of the last stage."""
        return geometric_mean([each.rate for each in self.last])

    def result(self) -> TunedResult:
        """For ``tuned.json``."""
        last = self.last
        together = np.concatenate([each.milliseconds for each in last])
        energies = [each.millijoules for each in last if each.millijoules is not None]
        return TunedResult(
            setting=self.setting,
            stage=last[-1].stage,
            rounds=len(last),
            latency_ms=_figure(float(np.median(together)), [float(np.median(each.milliseconds)) for each in last]),
            latency_p95_ms=_figure(self.p95, [float(np.percentile(each.milliseconds, P95)) for each in last]),
            images_per_second=_figure(self.rate, [each.rate for each in last]),
            millijoules_per_image=_figure(geometric_mean(energies), energies) if len(energies) == len(last) else None,
            agreement=self.agreement,
            verdict=self.verdict,
        )


def _figure(value: float, rounds: Sequence[float]) -> TunedFigure:
    ends = over_rounds(value, rounds).interval
    return TunedFigure(value, *(ends or (None, None)))


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of numbers above 0."""
    return math.exp(sum(map(math.log, values)) / len(values))


def round_cost(measured: SettingRound, objective: str) -> float:
    """The cost of one round, which the objective minimises: above 0.

    Milliseconds of the median batch for the latency, and for the size, to decide between settings of one model;
    milliseconds per image for the rate; millijoules per image for the energy.

    Raises:
        DeviceError: The energy was not measured.
    """
    if objective in (LATENCY, SIZE):
        return float(np.median(measured.milliseconds))
    if objective == RATE:
        return 1000 / measured.rate
    if measured.millijoules is None:
        raise DeviceError(f"its energy was not measured: {measured.no_energy}")
    return measured.millijoules


Rank = Tuple[float, float, float]


class Ranking:
    """Orders trials by how far they miss the limits, then by the objective.

    Args:
        objective: One of `options.OBJECTIVES`.
        budget: The limits.
    """

    def __init__(self, objective: str, budget: TuneBudget) -> None:
        self.objective, self.budget = objective, budget

    def cost(self, trial: TuneTrial) -> float:
        """The geometric mean cost of the rounds of the last stage; see `round_cost`."""
        return geometric_mean([round_cost(each, self.objective) for each in trial.last])

    def excess(self, trial: TuneTrial, slack: float = 0.0) -> float:
        """How far its figures are beyond the limits; see `TuneBudget.excess`."""
        return self.budget.excess(trial.p95, trial.rate, trial.agreement, slack)

    def rank(self, trial: TuneTrial, slack: float = 0.0) -> Rank:
        """Lower is better; with the size as the objective, the model's bytes count before the latency."""
        size = float(trial.model.bytes) if self.objective == SIZE else 0.0
        return self.excess(trial, slack), size, self.cost(trial)

    def best(self, trials: Sequence[TuneTrial], slack: float = 0.0) -> TuneTrial:
        """The best trial; of equal trials the earlier."""
        return min(trials, key=lambda trial: self.rank(trial, slack))

    def compare(self, trial: TuneTrial, other: TuneTrial) -> Optional[Interval]:
        """The 95 % interval of the cost of `trial` / cost of `other`, from rounds measured in turn."""
        return ratio_interval(trial, other, lambda each: round_cost(each, self.objective))


def ratio_interval(trial: TuneTrial, other: TuneTrial, cost: Callable[[SettingRound], float]) -> Optional[Interval]:
    """The 95 % interval of the ratio of two trials' costs, round by round of their common last stage.

    Raises:
        DeviceError: A cost was not measured.
    """
    pairs = list(zip(trial.last, other.last))
    return interval([cost(own) / cost(theirs) for own, theirs in pairs])


def is_worse(ends: Optional[Interval]) -> bool:
    """Whether a ratio of costs is certainly above 1."""
    return ends is not None and ends[0] > 1


def is_same(ends: Optional[Interval]) -> bool:
    """Whether a ratio of costs is certainly within `SAME` of 1."""
    return ends is not None and ends[0] >= 1 - SAME and ends[1] <= 1 + SAME


def int8_gains(int8: TuneTrial, floating: TuneTrial, objective: str) -> bool:
    """Whether an INT8 setting is certainly faster or uses less energy per image than a floating-point setting."""
    speed = LATENCY if objective == LATENCY else RATE
    costs = [lambda each: round_cost(each, speed)]
    if all(each.millijoules is not None for each in (*int8.last, *floating.last)):
        costs.append(lambda each: round_cost(each, ENERGY))
    return any(is_worse(ratio_interval(floating, int8, cost)) for cost in costs)


def preferred(trials: Sequence[TuneTrial]) -> TuneTrial:
    """The preferred one of settings with equal cost: more agreement, the wider type, then the shorter batch time."""
    return min(
        trials,
        key=lambda trial: (
            -(trial.agreement or 0.0),
            precision_order(trial),
            trial.setting.batch * trial.setting.streams,
            trial.setting.threads or math.inf,
            trial.setting.cuda_graph,
        ),
    )


def precision_order(trial: TuneTrial) -> int:
    """0 for FP32, larger for smaller types."""
    return len(_WIDTHS) if trial.model.precision == INT8 else _WIDTHS.get(trial.model.precision, len(_WIDTHS))


def floating_rivals(trials: Sequence[TuneTrial]) -> List[TuneTrial]:
    """The settings that INT8 is compared with: the FP16 settings, or without these, all others that are not INT8."""
    others = [trial for trial in trials if trial.model.precision != INT8]
    return [trial for trial in others if trial.model.precision == "fp16"] or others
