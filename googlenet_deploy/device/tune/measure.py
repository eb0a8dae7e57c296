"""Measures rounds of settings: opens runners, warms up, detects throttling, reads the power meter."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

import numpy as np

from googlenet_deploy.device.benchmark.inputs import BenchmarkInputs, make_batches
from googlenet_deploy.device.benchmark.loops import RUN, Batches, Clock, Length, Round, run_round
from googlenet_deploy.device.benchmark.streams import SlotStreams, ThreadStreams
from googlenet_deploy.device.benchmark.warmup import warm_up
from googlenet_deploy.device.power.energy import Measured, window_for
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.system.machine import LoadMonitor, MachineState, read_state, throttling
from googlenet_deploy.device.system.thermal import throttle_counts
from googlenet_deploy.device.tune.tuned_file import TuneSetting
from googlenet_deploy.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.power.select import AnySampler
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.system.nvml import Nvml
    from googlenet_deploy.device.tune.power_modes import PowerModeSwitch

# A setting, and the number of batches in flight.
OpenSetting = Callable[[TuneSetting, int], "Runner"]
OPEN_AT_ONCE = 6
MIN_WARM_UP = 0.2
COOLING_SECONDS = 15.0
MOST_COOLING_SECONDS = 120.0


@dataclass(frozen=True, eq=False)
class SettingRound:
    """One round of one setting.

    Attributes:
        stage: The stage, from 1.
        milliseconds: Time of each batch, from its start to its answers; float64 (batches,).
        rate: Images per second.
        millijoules: Energy per image; None if it was not measured.
        no_energy: Why it was not measured.
        throttled: What slowed the machine; empty if nothing was detected.
    """

    stage: int
    milliseconds: NDArray[np.float64]
    rate: float
    millijoules: Optional[float] = None
    no_energy: str = ""
    throttled: Tuple[str, ...] = ()


class _OneStream:
    """One batch after another, as `benchmark` measures a single stream."""

    def __init__(self, open_runner: Callable[[int], Runner], count: int) -> None:
        self.count = count
        self._runner = open_runner(1)

    def __enter__(self) -> _OneStream:
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.__exit__(None, None, None)

    def round(self, batches: Batches, length: Length, clock: Clock) -> Round:
        return run_round(self._runner, batches, length, clock)


_Streams = Union[_OneStream, SlotStreams, ThreadStreams]


class _Open(NamedTuple):
    streams: _Streams
    stack: ExitStack


class TuneMachine(NamedTuple):
    """What a measurement uses in addition to the model.

    Attributes:
        sampler: The power meter.
        modes: Sets power modes; None if they are not changed.
        nvml: The discrete GPU; None without one.
        root: Root of the file system.
        clock: Seconds, monotonic; the sampler's.
        sleep: Waits for a number of seconds.
    """

    sampler: AnySampler
    modes: Optional[PowerModeSwitch] = None
    nvml: Optional[Nvml] = None
    root: Path = Path("/")
    clock: Clock = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


class SettingMeasurer:
    """Measures one round after another; a context manager that closes every runner on exit.

    Runners stay open while few others are needed, so that settings can be measured in turn.

    Args:
        open_setting: Opens a setting's runner; see `OpenSetting`.
        specs: Each model's preprocessing, by the model's path.
        inputs: The images.
        image_backend: Library that resizes them.
        machine: Everything else.

    Attributes:
        throttled: What slowed the machine in a round that is part of the result, by setting.
        lengthened: The length of a round that the power meter needed; None if rounds were not lengthened.
    """

    def __init__(
        self,
        open_setting: OpenSetting,
        specs: Mapping[str, Preprocessing],
        inputs: BenchmarkInputs,
        image_backend: str,
        machine: TuneMachine,
    ) -> None:
        self._open_setting, self._specs, self._inputs, self._image_backend = open_setting, specs, inputs, image_backend
        self._machine = machine
        self._opened: OrderedDict[TuneSetting, _Open] = OrderedDict()
        self._batches: Dict[Tuple[str, int], Batches] = {}
        self._cooled = 0.0
        self.throttled: Dict[TuneSetting, Set[str]] = {}
        self.cooling_pauses = 0
        self.lengthened: Optional[float] = None

    def __enter__(self) -> SettingMeasurer:
        """Opens nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes every runner."""
        while self._opened:
            self._opened.popitem()[1].stack.close()

    def round(
        self, setting: TuneSetting, stage: int, seconds: float, runs: int, longest_warm_up: float
    ) -> SettingRound:
        """Measures one round; a throttled round is repeated once after a pause.

        Args:
            setting: What to measure.
            stage: The stage, from 1.
            seconds: Minimum length of the round.
            runs: Minimum number of batches in the round.
            longest_warm_up: Maximum seconds of warm-up if the runner is new.

        Raises:
            GoogLeNetDeployError: The setting does not run.
        """
        if self._machine.modes is not None and setting.power_mode:
            why = self._machine.modes.set(setting.power_mode)
            if why:
                raise DeviceError(f"power mode {setting.power_mode}: {why}")
        try:
            return self._cool_round(setting, stage, Length(self._window(seconds), runs), longest_warm_up)
        except BaseException:
            key = replace(setting, power_mode="")
            if key in self._opened:
                self._opened.pop(key).stack.close()
            raise

    def _cool_round(self, setting: TuneSetting, stage: int, length: Length, longest_warm_up: float) -> SettingRound:
        found = self._round(setting, stage, length, longest_warm_up)
        if found.throttled and self._cooled < MOST_COOLING_SECONDS:
            self._machine.sleep(COOLING_SECONDS)
            self._cooled += COOLING_SECONDS
            self.cooling_pauses += 1
            found = self._round(setting, stage, length, longest_warm_up)
        if found.throttled:
            self.throttled.setdefault(setting, set()).update(found.throttled)
        return found

    def _window(self, seconds: float) -> float:
        sampler = self._machine.sampler
        if isinstance(sampler, NoSampler):
            return seconds
        needed = window_for(sampler.meter, seconds)
        if needed > seconds:
            self.lengthened = max(needed, self.lengthened or 0.0)
        return needed

    def _round(self, setting: TuneSetting, stage: int, length: Length, longest_warm_up: float) -> SettingRound:
        machine, batches = self._machine, self._batches_for(setting)
        streams = self._streams(setting, batches, longest_warm_up)
        before, load = self._state(), LoadMonitor(machine.root, machine.nvml)
        if not isinstance(machine.sampler, NoSampler):
            machine.sampler.begin()
        with load:
            measured = streams.round(batches, length, machine.clock)
            load.observe()
        images = setting.batch * measured.runs
        joules, why = _joules(machine.sampler.energy(measured.start, measured.end))
        return SettingRound(
            stage=stage,
            milliseconds=1000 * np.asarray(measured.seconds[RUN], np.float64),
            rate=images / (measured.end - measured.start),
            millijoules=None if joules is None else 1000 * joules / images,
            no_energy=why,
            throttled=tuple(throttling(before, load, self._state())),
        )

    def _state(self) -> MachineState:
        """The state with the counters, but without the power mode, which may take a process."""
        state = read_state(self._machine.root, self._machine.nvml, quick=True)
        return replace(state, counts=throttle_counts(self._machine.root))

    def _batches_for(self, setting: TuneSetting) -> Batches:
        key = (setting.model, setting.batch)
        if key not in self._batches:
            spec = self._specs[setting.model]
            alike = next((k for k in self._batches if k[1] == setting.batch and self._specs[k[0]] == spec), None)
            self._batches[key] = (
                make_batches(self._inputs, spec, self._image_backend, setting.batch)
                if alike is None
                else self._batches[alike]
            )
        return self._batches[key]

    def _streams(self, setting: TuneSetting, batches: Batches, longest_warm_up: float) -> _Streams:
        key = replace(setting, power_mode="")
        clock, once = self._machine.clock, Length(0.0, setting.streams)
        if key in self._opened:
            self._opened.move_to_end(key)
            streams = self._opened[key].streams
            streams.round(batches, once, clock)
            return streams
        while len(self._opened) >= OPEN_AT_ONCE:
            self._opened.popitem(last=False)[1].stack.close()
        with ExitStack() as stack:
            kind = _OneStream if setting.streams == 1 else ThreadStreams if setting.device == "CPU" else SlotStreams
            opened: _Streams = kind(lambda slots: self._open_setting(setting, slots), setting.streams)
            stack.enter_context(opened)
            least = min(MIN_WARM_UP, longest_warm_up)
            warm_up(lambda: opened.round(batches, once, clock), clock, least, longest_warm_up)
            self._opened[key] = _Open(opened, stack.pop_all())
        return opened


def _joules(measured: Measured) -> Tuple[Optional[float], str]:
    return (None, measured.reason) if isinstance(measured, NotMeasured) else (measured.joules, "")


def throttling_notes(measurer: SettingMeasurer) -> List[str]:
    """The notes about throttling; empty if nothing was detected."""
    notes = []
    if measurer.cooling_pauses:
        pauses = f"{measurer.cooling_pauses} round{'s' if measurer.cooling_pauses > 1 else ''}"
        notes.append(f"the machine throttled: {pauses} repeated after a pause of {COOLING_SECONDS:g} s each")
    for setting, causes in measurer.throttled.items():
        notes.append(f"{setting.text()}: throttled while it was measured ({'; '.join(sorted(causes))})")
    return notes
