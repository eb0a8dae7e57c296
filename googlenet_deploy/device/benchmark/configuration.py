"""One configuration, a batch size with a number of streams: warm-up, rounds and results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from googlenet_deploy.device.benchmark.energy import energy_dict, not_measured
from googlenet_deploy.device.benchmark.loops import COMPUTE, COPY_IN, COPY_OUT, END_TO_END, RUN, SCOPES, Round
from googlenet_deploy.device.benchmark.statistics import Figure, over_rounds, summarise
from googlenet_deploy.device.benchmark.warmup import WarmUp
from googlenet_deploy.device.power.energy import Measured
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.select import AnySampler

_ONE_STREAM = "measured with one stream only"


@dataclass
class Configuration:
    """The measurements of one configuration.

    Attributes:
        batch: Images per batch.
        streams: Batches in progress at once.
        threads: CPU threads of each runner; None for one per core.
        warm_up: How the warm-up went.
        runs: Rounds of prepared batches, back to back.
        whole: Rounds from encoded images to classes; empty for several streams.
        run_energy: Energy of each round of `runs`.
        whole_energy: Energy of each round of `whole`.
    """

    batch: int
    streams: int
    threads: Optional[int]
    warm_up: WarmUp
    runs: List[Round] = field(default_factory=list)
    whole: List[Round] = field(default_factory=list)
    run_energy: List[Measured] = field(default_factory=list)
    whole_energy: List[Measured] = field(default_factory=list)

    def to_dict(self, sampler: AnySampler, idle: Measured, device: str, *, copies_told: bool) -> Dict[str, Any]:
        """For JSON.

        Args:
            sampler: The sampler that measured the energy.
            idle: Idle power.
            device: Where the model ran.
            copies_told: Whether the runner times copies separately.
        """
        return {
            "batch": self.batch,
            "streams": self.streams,
            "threads": self.threads,
            "warm_up": self.warm_up.to_dict(),
            "rounds": len(self.runs),
            "milliseconds": {scope: self._scope(scope, device, copies_told=copies_told) for scope in SCOPES},
            "images_per_second": self._throughput(self.runs),
            "end_to_end_images_per_second": self._throughput(self.whole),
            "energy": {
                RUN: _energy(sampler, self.run_energy, self.runs, self.batch, idle),
                END_TO_END: _energy(sampler, self.whole_energy, self.whole, self.batch, idle),
            },
        }

    def _scope(self, scope: str, device: str, *, copies_told: bool) -> Dict[str, Any]:
        rounds = [part.seconds[scope] for part in (*self.runs, *self.whole) if scope in part.seconds]
        if rounds:
            return summarise(rounds).to_dict()
        if self.streams > 1:
            return {"not_measured": _ONE_STREAM}
        assert scope in (COPY_IN, COPY_OUT), scope  # every runner has the others
        if device == "CPU":
            return {"not_measured": "a CPU copies nothing"}
        return {
            "not_measured": "the GPU reads the host's memory (zero-copy)"
            if copies_told
            else f"this backend does not separate copies; they count as {COMPUTE}"
        }

    def _throughput(self, rounds: Sequence[Round]) -> Dict[str, Any]:
        if not rounds:
            return Figure(None, missing=_ONE_STREAM).to_dict()
        rates = [self.batch * part.runs / (part.end - part.start) for part in rounds]
        images = self.batch * sum(part.runs for part in rounds)
        return over_rounds(images / sum(part.end - part.start for part in rounds), rates).to_dict()


def _energy(
    sampler: AnySampler, energies: Sequence[Measured], rounds: Sequence[Round], batch: int, idle: Measured
) -> Dict[str, Any]:
    if isinstance(sampler, NoSampler):
        return not_measured(sampler.reason)
    if not rounds:
        return not_measured(NotMeasured(_ONE_STREAM))
    return energy_dict(sampler.meter, energies, [batch * part.runs for part in rounds], idle)
