"""Measures one configuration after another on an opened model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, List, Optional

from googlenet_deploy.device.benchmark.configuration import Configuration
from googlenet_deploy.device.benchmark.loops import Batches, Clock, Length, Round, end_to_end_round, run_round
from googlenet_deploy.device.benchmark.streams import SlotStreams, ThreadStreams
from googlenet_deploy.device.benchmark.warmup import MIN_SECONDS, WarmUp, warm_up
from googlenet_deploy.device.runner.overlap import AsyncRunner
from googlenet_deploy.device.system.processor import available_cores

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions
    from googlenet_deploy.device.power.energy import Measured
    from googlenet_deploy.device.power.select import AnySampler
    from googlenet_deploy.device.progress import Advance
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

# Slots, CPU threads (None for one per core), and the batch size that will be used.
OpenRunner = Callable[[int, Optional[int], int], "Runner"]


@dataclass(frozen=True)
class Measurement:
    """The settings that all configurations share.

    Attributes:
        runner: The opened model, for one stream.
        open_runner: Opens it again; see `OpenRunner`.
        spec: Its preprocessing.
        image_backend: Library that resizes images.
        sampler: The sampler that measures the energy.
        length: The length of a round.
        options: What is measured.
        clock: Seconds, monotonic.
        advance: Called after every round.
    """

    runner: Runner
    open_runner: OpenRunner
    spec: Preprocessing
    image_backend: str
    sampler: AnySampler
    length: Length
    options: BenchmarkOptions
    clock: Clock
    advance: Advance

    def configuration(self, batches: Batches, streams: int) -> Configuration:
        """Warms up and measures every round."""
        return self._one(batches) if streams == 1 else self._several(batches, streams)

    def _one(self, batches: Batches) -> Configuration:
        warm = self._warm_up(lambda: self.runner.run(batches[0][1]))
        found = Configuration(len(batches[0][0]), 1, self.options.threads, warm)
        for _ in range(self.options.rounds):
            self._round(lambda: run_round(self.runner, batches, self.length, self.clock), found.runs, found.run_energy)
            self._round(lambda: self._whole(batches), found.whole, found.whole_energy)
            self.advance(1)
        return found

    def _whole(self, batches: Batches) -> Round:
        return end_to_end_round(self.runner, batches, self.spec, self.image_backend, self.length, self.clock)

    def _several(self, batches: Batches, count: int) -> Configuration:
        threads = self.options.threads
        if threads is None and self.runner.device == "CPU":
            threads = max(1, available_cores() // count)
        kind = SlotStreams if isinstance(self.runner, AsyncRunner) else ThreadStreams
        size = len(batches[0][0])
        with kind(lambda slots: self.open_runner(slots, threads, size), count) as streams:
            once = Length(0.0, count)
            warm = self._warm_up(lambda: streams.round(batches, once, self.clock))
            found = Configuration(size, count, threads, warm)
            for _ in range(self.options.rounds):
                self._round(lambda: streams.round(batches, self.length, self.clock), found.runs, found.run_energy)
                self.advance(1)
        return found

    def _round(self, run: Callable[[], Round], rounds: List[Round], energies: List[Measured]) -> None:
        measured = run()
        rounds.append(measured)
        energies.append(self.sampler.energy(measured.start, measured.end))

    def _warm_up(self, run: Callable[[], object]) -> WarmUp:
        longest = self.options.warm_up_seconds
        return warm_up(run, self.clock, min(MIN_SECONDS, longest), longest)
