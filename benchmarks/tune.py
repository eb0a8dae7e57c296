"""What ``tune`` chooses against a full grid of the same settings, measured before and after it on the same machine.

The grid measures every setting as ``benchmark`` does by default: five rounds of two seconds after a warm-up. Three of
the rounds go ahead of ``tune`` and two follow, so that a machine that drifts does not favour either. The grid's time is
that of one warm-up and five rounds. At the end the grid's best and the choice of ``tune`` are measured in turn.

    python benchmarks/tune.py [--batches 1,2,4,8,16] [--rounds 5] [--record]
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from harness import bvlc_int8_onnx, bvlc_onnx, options, record, say, table

from googlenet_deploy.device.options import whole_numbers
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.runner.protocol import Runner
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.tune.measure import SettingMeasurer, TuneMachine
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.device.tune.ranking import geometric_mean
from googlenet_deploy.device.tune.run import Tuner
from googlenet_deploy.device.tune.runnable import ModelProbe, TuneRequest
from googlenet_deploy.device.tune.settings import settings_of
from googlenet_deploy.device.tune.tuned_file import TuneSetting

SECONDS, RUNS = 2.0, 10  # benchmark's own defaults
WARM_UP = 5.0  # at most, as in tune; it ends earlier once the latency has settled
AHEAD = 3  # of the grid's rounds
WORST_LOSS, LARGEST_SHARE = 5.0, 0.25
DUEL_ROUNDS = 6
MACHINE = TuneMachine(NoSampler(NotMeasured("the rate is measured, not the power")))


def open_file(file: Path, setting: TuneSetting, slots: int) -> Runner:
    assert slots == 1  # on a CPU batches run one at a time
    return open_runner(file, setting.backend, threads=setting.threads, batch=setting.batch)


class Grid:
    """Every setting of a request, with the images per second of each round."""

    def __init__(self, request: TuneRequest) -> None:
        self.request = request
        probe = ModelProbe(request, lambda: None)
        models = probe.runnable()
        self.inputs = probe.timed_inputs
        cores = len(os.sched_getaffinity(0))
        settings, _ = settings_of(models, request.options, "rate", cores, ())
        self.files = {model.found.model.path: model.found.file for model in models}
        self.specs = {model.found.model.path: model.spec for model in models}
        self.rates: dict[TuneSetting, list[float]] = {setting: [] for setting in settings}
        self.seconds = 0.0

    def measurer(self) -> SettingMeasurer:
        return SettingMeasurer(
            lambda setting, slots: open_file(self.files[setting.model], setting, slots),
            self.specs,
            self.inputs,
            self.request.image_backend,
            MACHINE,
        )

    def measure(self, rounds: int, *, count_warm_up: bool) -> None:
        for setting, rates in self.rates.items():
            with self.measurer() as measurer:
                start = time.perf_counter()
                rates.append(measurer.round(setting, 1, SECONDS, RUNS, WARM_UP).rate)
                first = time.perf_counter() - start if count_warm_up else setting.batch * RUNS / rates[-1]
                self.seconds += max(first, SECONDS)
                start = time.perf_counter()
                rates += [measurer.round(setting, 1, SECONDS, RUNS, WARM_UP).rate for _ in range(rounds - 1)]
                self.seconds += time.perf_counter() - start

    def duel(self, first: TuneSetting, second: TuneSetting) -> float:
        """The median ratio of the first setting's rate to the second's, over interleaved rounds."""
        with self.measurer() as measurer:
            ratios = []
            for number in range(DUEL_ROUNDS):
                order = (first, second) if number % 2 else (second, first)
                rates = {each: measurer.round(each, 1, 1.0, RUNS, WARM_UP).rate for each in order}
                ratios.append(rates[first] / rates[second])
        return statistics.median(ratios)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--batches", type=whole_numbers, default=(1, 2, 4, 8, 16), metavar="N,N")
    arguments = parser.parse_args()
    request = TuneRequest(
        [bvlc_onnx(), bvlc_int8_onnx()],
        TuneOptions(objective="rate", batch_sizes=arguments.batches, thread_counts=(len(os.sched_getaffinity(0)),)),
        open_file,
        lambda runner: runner.metadata.preprocessing,  # type: ignore[arg-type,return-value]
        power="none",
    )
    load = os.getloadavg()[0]
    grid = Grid(request)
    print(f"{len(grid.rates)} settings; load {load:.2f}", flush=True)
    grid.measure(AHEAD, count_warm_up=True)
    start = time.perf_counter()
    tuned = Tuner(request, report=say).run()
    seconds = time.perf_counter() - start
    grid.measure(arguments.rounds - AHEAD, count_warm_up=False)
    assert tuned.choice is not None
    return report(grid, replace(tuned.choice.setting), seconds, load, recorded=arguments.record)


def report(grid: Grid, choice: TuneSetting, seconds: float, load: float, *, recorded: bool) -> int:
    means = {setting: geometric_mean(rates) for setting, rates in grid.rates.items()}
    order = sorted(means, key=lambda setting: -means[setting])
    best = order[0]
    table(
        ("setting", "images/s", "lowest", "highest", ""),
        [
            (
                setting.text(),
                f"{means[setting]:.1f}",
                f"{min(grid.rates[setting]):.1f}",
                f"{max(grid.rates[setting]):.1f}",
                "chosen by tune" if setting == choice else "",
            )
            for setting in order
        ],
    )
    loss = 100 * (1 - means[choice] / means[best])
    ratio = 1.0 if choice == best else grid.duel(choice, best)
    share = seconds / grid.seconds
    say(f"load before: {load:.2f}; {len(order)} settings")
    say(f"tune took {seconds:.0f} s, the grid {grid.seconds:.0f} s: a share of {share:.2f} (at most {LARGEST_SHARE:g})")
    say(f"its choice has {loss:.1f} % less throughput than the grid's best, by the grid (at most {WORST_LOSS:g})")
    say(f"measured in turn, its throughput is {ratio:.3f} times that of the grid's best")
    if recorded:
        figures = {
            "settings": {setting.text(): grid.rates[setting] for setting in order},
            "chosen": choice.text(),
            "best": best.text(),
            "loss_percent": loss,
            "in_turn": ratio,
            "tune_seconds": seconds,
            "grid_seconds": grid.seconds,
            "share": share,
            "load_before": load,
        }
        record("tune", figures)
    return 0 if loss <= WORST_LOSS and share <= LARGEST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
