"""Successive halving: short rounds of every setting, longer rounds of the better third, then the best in turn.

K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (2016), with
three additions. While the rounds are short, a setting just beyond the cut stays, and so does one that meets the limits
by a margin, since the best settings are often near a limit. If INT8 settings remain, the best floating-point setting
stays to the end, because INT8 has to be compared with it. The last stage measures its few settings in turn, in a
rotating order, and drops a setting when the 95 % interval of the ratio of its cost to the best setting's, round by
round, is above 1 twice in a row; it ends when one is left, when those left are the same within 2 %, or after the
maximum number of rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence

from googlenet_deploy.device.text import counted
from googlenet_deploy.device.tune.measure import SettingRound
from googlenet_deploy.device.tune.models import INT8
from googlenet_deploy.device.tune.options import ENERGY, SIZE, TuneBudget, TuneOptions
from googlenet_deploy.device.tune.ranking import (
    Ranking,
    TuneTrial,
    floating_rivals,
    int8_gains,
    is_same,
    is_worse,
    preferred,
    round_cost,
)
from googlenet_deploy.device.tune.tuned_file import TuneSetting
from googlenet_deploy.errors import GoogLeNetDeployError

FINALISTS = 3
KEPT = 3  # one setting in KEPT goes on
MARGINS = (0.10, 0.05)  # beyond the cut, in the first stage and in later ones
SLACK = 0.10  # for limits, while rounds are short
ROOM = 0.10  # margin to every limit of the setting that is kept for safety
# Images of a round at least, and batches: a round of large batches would otherwise last several times its length.
FIRST_IMAGES, LAST_IMAGES, LEAST_BATCHES = 3, 7, 2
FIRST_WARM_UP = 0.5
MIN_ROUNDS = 3
MOST_FINALISTS = FINALISTS + 2  # including those that always stay

# A setting, the stage, seconds and batches per round, seconds of warm-up.
MeasureRound = Callable[[TuneSetting, int, float, int, float], SettingRound]


@dataclass
class TuneOutcome:
    """The result of the search.

    Attributes:
        chosen: The choice; None if no setting meets the limits.
        nearest: In that case, the setting that misses them least.
        ties: Settings that cannot be distinguished from the choice.
        reason: Why it was chosen.
    """

    chosen: Optional[TuneTrial] = None
    nearest: Optional[TuneTrial] = None
    ties: List[TuneTrial] = field(default_factory=list)
    reason: str = ""


class Halving:
    """The search.

    Args:
        measure: Measures a round; see `MeasureRound`.
        ranking: The objective and the limits.
        options: Lengths of the rounds.
        report: Called with a line about each step.
    """

    def __init__(
        self, measure: MeasureRound, ranking: Ranking, options: TuneOptions, report: Callable[[str], None]
    ) -> None:
        self._measure, self._ranking, self._options, self._report = measure, ranking, options, report
        self._stage = 0
        self._trials: List[TuneTrial] = []
        self._finalists: List[TuneTrial] = []

    def run(self, trials: Sequence[TuneTrial]) -> TuneOutcome:
        """Finds the best of the trials; records in each its verdict."""
        self._trials = list(trials)
        alive, before, seconds = self._trials, len(trials) + 1, self._options.first_seconds
        while not self._stage or MOST_FINALISTS < len(alive) < before:
            before = len(alive)
            alive = self._stage_of(alive, min(seconds, self._options.seconds))
            seconds *= 2
        outcome = self._final(alive)
        while outcome.chosen is None:
            others = [trial for trial in trials if trial.rounds and not trial.failed and trial not in self._finalists]
            others = [trial for trial in others if not self._ranking.excess(trial, SLACK)]
            if not others:
                return self._nothing_holds()
            self._report("none of them meets the limits: the best of the others")
            outcome = self._final(sorted(others, key=self._ranking.rank)[:FINALISTS])
        return outcome

    def _stage_of(self, alive: List[TuneTrial], seconds: float) -> List[TuneTrial]:
        self._stage += 1
        self._report(f"stage {self._stage}: {counted(len(alive), 'setting')}, {seconds:g} s each")
        # Backwards every other time: those measured last are still open, which saves opening and warming them up.
        turn = sorted(alive, key=self._trials.index, reverse=self._stage % 2 == 0)
        for trial in turn:
            self._try(trial, self._stage, seconds, FIRST_IMAGES, min(FIRST_WARM_UP, self._options.warm_up))
        alive = [trial for trial in alive if not trial.failed]
        margin = MARGINS[0] if self._stage == 1 else MARGINS[1]
        return self._cut(alive, max(FINALISTS, math.ceil(len(alive) / KEPT)), margin)

    def _try(self, trial: TuneTrial, stage: int, seconds: float, images: int, warm_up: float) -> None:
        runs = max(LEAST_BATCHES, math.ceil(images / trial.setting.batch))
        for attempt in range(2):
            try:
                measured = self._measure(trial.setting, stage, seconds, runs, warm_up)
                if attempt or self._ranking.objective != ENERGY or measured.millijoules is not None:
                    round_cost(measured, self._ranking.objective)
                    trial.rounds.append(measured)
                    return
            except (GoogLeNetDeployError, MemoryError) as error:
                trial.failed = True
                trial.verdict = error.message if isinstance(error, GoogLeNetDeployError) else "out of memory"
                return

    def _cut(self, alive: List[TuneTrial], count: int, margin: float) -> List[TuneTrial]:
        """The best settings, those within the margin of the last of them (at most half), and those that always stay."""
        order = sorted(alive, key=lambda trial: self._ranking.rank(trial, SLACK))
        if len(order) <= count:
            return order
        excess, size, cost = self._ranking.rank(order[count - 1], SLACK)
        most = max(count, len(order) // 2)
        near = [
            trial
            for trial in order[count:most]
            if self._ranking.rank(trial, SLACK) <= (excess, size, cost * (1 + margin))
        ]
        kept = [*order[:count], *near]
        kept += [trial for trial in self._kept_anyway(order) if trial not in kept]
        for trial in order:
            if trial not in kept:
                missed = self._ranking.excess(trial, SLACK)
                trial.verdict = f"{'over the limits' if missed else 'behind'} in stage {self._stage}"
        return kept

    def _kept_anyway(self, order: List[TuneTrial]) -> List[TuneTrial]:
        """The best setting with a margin to every limit; if INT8 settings remain, also the best in floating point."""
        found = [trial for trial in order if not self._ranking.excess(trial, -ROOM)][:1]
        if self._ranking.objective != SIZE and any(trial.model.precision == INT8 for trial in order):
            rivals = floating_rivals(order)
            found += [self._ranking.best(rivals, SLACK)] if rivals else []
        return found

    def _final(self, finalists: List[TuneTrial]) -> TuneOutcome:
        """The last stage; nothing is chosen if no setting meets the limits."""
        self._stage += 1
        self._finalists += finalists
        self._report(f"last stage: {len(finalists)} settings in turn, {self._options.seconds:g} s each")
        alive, worse = list(finalists), dict.fromkeys(map(id, finalists), 0)
        for number in range(self._options.rounds):
            for offset in range(len(alive)):
                trial = alive[(number + offset) % len(alive)]
                self._try(trial, self._stage, self._options.seconds, LAST_IMAGES, self._options.warm_up)
            alive = [trial for trial in alive if not trial.failed]
            if number + 1 >= MIN_ROUNDS and alive:
                alive = self._drop_worse(alive, worse)
                if self._is_decided(alive):
                    break
        return self._decide([trial for trial in finalists if not trial.failed])

    def _drop_worse(self, alive: List[TuneTrial], worse: Dict[int, int]) -> List[TuneTrial]:
        best, kept = self._ranking.best(alive), []
        for trial in alive:
            missed = self._ranking.excess(trial, SLACK) > self._ranking.excess(best, SLACK)
            apart = trial is not best and (missed or is_worse(self._ranking.compare(trial, best)))
            worse[id(trial)] = worse[id(trial)] + 1 if apart else 0
            if worse[id(trial)] >= 2:
                trial.verdict = "over the limits" if missed else "worse in every comparison with the best"
            else:
                kept.append(trial)
        return kept

    def _is_decided(self, alive: List[TuneTrial]) -> bool:
        best = self._ranking.best(alive)
        return all(is_same(self._ranking.compare(trial, best)) for trial in alive if trial is not best)

    def _decide(self, finalists: List[TuneTrial]) -> TuneOutcome:
        """Chooses among the settings that meet the limits: by the objective, then INT8's rule, then preference."""
        holding = [trial for trial in finalists if not self._ranking.excess(trial)]
        for trial in finalists:
            if trial not in holding:
                trial.verdict = "over the limits"
        if not holding:
            return TuneOutcome()
        if self._ranking.objective == SIZE:
            smallest = min(trial.model.bytes for trial in holding)
            for trial in holding:
                trial.verdict = "larger" if trial.model.bytes > smallest else trial.verdict
            holding = [trial for trial in holding if trial.model.bytes == smallest]
        left = [trial for trial in holding if not trial.verdict] or holding
        best = self._ranking.best(left)
        tied = [trial for trial in left if trial is not best and not is_worse(self._ranking.compare(trial, best))]
        return self._choose(best, tied, holding)

    def _choose(self, best: TuneTrial, tied: List[TuneTrial], holding: List[TuneTrial]) -> TuneOutcome:
        objective = self._ranking.objective
        chosen = preferred([best, *tied]) if tied else best
        reason = _reason(tied, holding, self._ranking.budget)
        rivals = floating_rivals([trial for trial in holding if trial.model.precision != INT8])
        if chosen.model.precision == INT8 and objective != SIZE and rivals:
            rival = self._ranking.best(rivals)
            if not int8_gains(chosen, rival, objective):
                name = rival.model.precision.upper()
                reason = f"INT8 is neither faster nor cheaper than {name} here for certain, so {name} is kept"
                chosen = rival
        ties = [trial for trial in (best, *tied) if trial is not chosen]
        for trial in holding:
            trial.verdict = "chosen" if trial is chosen else "ties" if trial in ties else trial.verdict or "worse"
        return TuneOutcome(chosen, None, ties, reason)

    def _nothing_holds(self) -> TuneOutcome:
        ran = [trial for trial in self._finalists if trial.rounds and not trial.failed]
        if not ran:
            return TuneOutcome()
        nearest = self._ranking.best(ran)
        nearest.verdict = "nearest to the limits"
        return TuneOutcome(None, nearest)


def _reason(tied: Sequence[TuneTrial], holding: Sequence[TuneTrial], budget: TuneBudget) -> str:
    if tied:
        return f"ties with {len(tied)} other setting{'s' if len(tied) > 1 else ''}"
    if len(holding) > 1:
        return "the best, told apart from the others of the last stage"
    return "the only one of the last stage that meets the limits" if budget.text() else "the only one of the last stage"
