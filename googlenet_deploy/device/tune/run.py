"""`tune` from the models to ``tuned.json``: opens the models that run here, measures agreement, searches, decides."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence

from googlenet_deploy import __version__
from googlenet_deploy.device.benchmark.run import check_memory, open_nvml, other_load
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.select import AnySampler, open_sampler
from googlenet_deploy.device.system.clocks import gpu_clock
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.device.system.machine import describe_machine, read_state
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.device.tune.halving import Halving, TuneOutcome
from googlenet_deploy.device.tune.measure import SettingMeasurer, SettingRound, TuneMachine, throttling_notes
from googlenet_deploy.device.tune.options import ENERGY, LATENCY
from googlenet_deploy.device.tune.power_modes import PowerModeSwitch
from googlenet_deploy.device.tune.ranking import Ranking, TuneTrial
from googlenet_deploy.device.tune.runnable import ModelProbe, TuneRequest
from googlenet_deploy.device.tune.settings import RunnableModel, settings_of
from googlenet_deploy.device.tune.tuned_file import LeftOut, Tuned, TuneSetting
from googlenet_deploy.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.inputs import BenchmarkInputs
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.system.nvml import Nvml


class Tuner:
    """One search.

    Args:
        request: The request.
        stop: Set it to end the search at the next round.
        report: Called with a line about each step.
        root: Root of the file system.
        machine: Replacements for this machine's clock, sleep and power meter.
        is_root: As for `PowerModeSwitch`.

    Attributes:
        tuned: The result; None until there is one. It is set even if a power mode cannot be restored.
    """

    def __init__(
        self,
        request: TuneRequest,
        *,
        stop: Optional[threading.Event] = None,
        report: Callable[[str], None] = lambda _line: None,
        root: Path = Path("/"),
        machine: Optional[TuneMachine] = None,
        is_root: Optional[bool] = None,
    ) -> None:
        self._request, self._options = request, request.options
        self._stop, self._report, self._root = stop or threading.Event(), report, root
        self._given, self._is_root = machine, is_root
        self._left_out: List[LeftOut] = []
        self._notes: List[str] = []
        self.tuned: Optional[Tuned] = None

    def run(self) -> Tuned:
        """Searches.

        Raises:
            UsageError: The options are invalid here.
            DeviceError: Nothing runs here, the energy cannot be measured, or a power mode cannot be restored.
            KeyboardInterrupt: `stop` was set; the power mode is restored.
            GoogLeNetDeployError: See `ModelProbe.runnable`.
        """
        if self._options.min_agreement is not None and self._request.sources is None:
            raise UsageError("--min-agreement needs images", "pass photographs with --images")
        with ExitStack() as stack:
            switch = self._power_modes(stack)
            nvml = open_nvml(stack)
            machine_texts = _machine_texts(self._root, nvml)
            self._notes += other_load(read_state(self._root, nvml, quick=True))
            probe = ModelProbe(self._request, self._check_stop)
            models = probe.runnable()
            self._notes += self._advice(models, switch)
            modes = self._usable_modes(switch)
            sampler = self._sampler(models)
            stack.enter_context(sampler)
            machine = (self._given or TuneMachine(sampler))._replace(modes=switch, nvml=nvml, root=self._root)
            objective = self._objective(sampler)
            trials = self._trials(models, objective, modes)
            outcome = self._search(
                models, trials, Ranking(objective, self._options.budget), machine, probe.timed_inputs
            )
            self._left_out[:0], self._notes[:0] = probe.left_out, probe.notes
            made = Tuned(
                tool=f"googlenet-deploy {__version__}",
                created=datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
                machine=machine_texts,
                objective=objective,
                budget=self._options.budget,
                models=tuple(dict.fromkeys(model.found.model for model in models)),
                results=(),
                chosen=None,
                reason=outcome.reason,
                meter=_meter_text(sampler),
                no_energy=sampler.reason.reason if isinstance(sampler, NoSampler) else "",
                images=probe.images,
                left_out=tuple(dict.fromkeys(self._left_out)),
                notes=tuple(dict.fromkeys([*self._notes, *_runner_notes(models)])),
            )
            self.tuned = _with_results(made, trials, outcome)
        return self.tuned

    def _advice(self, models: Sequence[RunnableModel], switch: Optional[PowerModeSwitch]) -> List[str]:
        """Advice to a Jetson user about what is tried."""
        notes = []
        if find_jetson(self._root) is not None and all(model.device == "CPU" for model in models):
            notes.append(
                "no engine is here, so the GPU stays unused: ./build.sh --candidates builds a bundle's engines"
            )
        clock = gpu_clock(self._root)
        if switch is not None and clock is not None and clock.locked:
            notes.append(
                "the GPU's clock was locked; a change of the power mode may have released it: sudo jetson_clocks"
            )
        return notes

    def _power_modes(self, stack: ExitStack) -> Optional[PowerModeSwitch]:
        if not self._options.power_modes:
            return None
        sleep = {} if self._given is None else {"sleep": self._given.sleep}
        return stack.enter_context(PowerModeSwitch(self._root, is_root=self._is_root, **sleep))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _usable_modes(self, switch: Optional[PowerModeSwitch]) -> List[str]:
        """The modes that can be set now; the others are left out, with the reason."""
        if switch is None:
            return []
        usable = []
        for name in switch.names:
            self._check_stop()
            why = switch.set(name)
            if why:
                self._left_out.append(LeftOut(f"power mode {name}", why))
            else:
                usable.append(name)
        return usable

    def _sampler(self, models: Sequence[RunnableModel]) -> AnySampler:
        if self._given is not None:
            return self._given.sampler
        on_cpu = [model.device == "CPU" for model in models]
        if any(on_cpu) and not all(on_cpu) and find_jetson(self._root) is None:
            return NoSampler(NotMeasured("models run on the CPU and on the GPU, whose meters cannot be compared"))
        device = "CPU" if all(on_cpu) else "GPU"
        return open_sampler(self._request.power, device, self._request.power_rails, self._root)

    def _objective(self, sampler: AnySampler) -> str:
        """The objective; the energy needs a meter.

        Raises:
            DeviceError: The energy was requested, and there is no meter.
        """
        asked = self._options.objective
        if not isinstance(sampler, NoSampler):
            return asked or ENERGY
        if asked == ENERGY:
            why = f"{sampler.reason.reason}. {sampler.reason.remedy}".rstrip(". ")
            raise DeviceError(
                f"--objective energy: there is no power meter: {why}", "choose --objective latency, rate or size"
            )
        if asked is None:
            self._notes.append("the energy is not an objective without a power meter: the latency is")
        return asked or LATENCY

    def _trials(self, models: Sequence[RunnableModel], objective: str, modes: Sequence[str]) -> List[TuneTrial]:
        settings, left_out = settings_of(models, self._options, objective, available_cores(), modes)
        by_name = {(model.found.model.path, model.backend): model for model in models}
        trials = []
        for setting in settings:
            model = by_name[setting.model, setting.backend]
            try:
                check_memory(setting.batch, setting.streams, model.spec, self._root)
            except UsageError as error:
                left_out.append(LeftOut(setting.text(), error.message))
            else:
                trials.append(TuneTrial(setting, model.found.model, model.agreement))
        self._left_out += left_out
        if not trials:
            reasons = "; ".join(f"{item.what}: {item.reason}" for item in left_out)
            raise UsageError(f"no setting is left to try: {reasons}", "choose another --batch or fewer --streams")
        return trials

    def _search(
        self,
        models: Sequence[RunnableModel],
        trials: List[TuneTrial],
        ranking: Ranking,
        machine: TuneMachine,
        inputs: BenchmarkInputs,
    ) -> TuneOutcome:
        files = {model.found.model.path: model.found.file for model in models}
        specs = {model.found.model.path: model.spec for model in models}

        def open_setting(setting: TuneSetting, slots: int) -> Runner:
            threads = setting.threads
            if threads is None and setting.device == "CPU" and setting.streams > 1:
                threads = max(1, available_cores() // setting.streams)
            return self._request.open_file(files[setting.model], replace(setting, threads=threads), slots)

        with SettingMeasurer(open_setting, specs, inputs, self._request.image_backend, machine) as measurer:

            def measure(setting: TuneSetting, stage: int, seconds: float, runs: int, warm_up: float) -> SettingRound:
                self._check_stop()
                return measurer.round(setting, stage, seconds, runs, warm_up)

            outcome = Halving(measure, ranking, self._options, self._report).run(trials)
        self._notes += throttling_notes(measurer)
        if measurer.lengthened is not None:
            self._notes.append(f"rounds lasted at least {measurer.lengthened:g} s, as the power meter needs them")
        self._left_out += [LeftOut(trial.setting.text(), trial.verdict) for trial in trials if trial.failed]
        if outcome.chosen is None and outcome.nearest is None:
            reasons = dict.fromkeys(trial.verdict for trial in trials)
            raise DeviceError(f"not one of {len(trials)} settings could be measured: {'; '.join(reasons)}")
        return outcome


def _with_results(made: Tuned, trials: Sequence[TuneTrial], outcome: TuneOutcome) -> Tuned:
    """The results, the choice or the nearest first, then what ties with it, then by stage and rank."""
    ranking = Ranking(made.objective, made.budget)
    ahead = [trial for trial in (outcome.chosen, outcome.nearest, *outcome.ties) if trial is not None]
    others = [trial for trial in trials if trial.rounds and not trial.failed and trial not in ahead]
    others.sort(key=lambda trial: (-trial.rounds[-1].stage, ranking.rank(trial)))
    return replace(
        made,
        results=tuple(trial.result() for trial in (*ahead, *others)),
        chosen=0 if outcome.chosen is not None else None,
        nearest=0 if outcome.chosen is None else None,
        ties=tuple(range(1, 1 + len(outcome.ties))),
    )


def _meter_text(sampler: AnySampler) -> str:
    return "" if isinstance(sampler, NoSampler) else f"{sampler.meter.name}, {sampler.meter.covers}"


def _runner_notes(models: Sequence[RunnableModel]) -> List[str]:
    return [f"{model.found.model.path}, {model.name}: {note}" for model in models for note in model.notes]


def _machine_texts(root: Path, nvml: Optional[Nvml]) -> Dict[str, str]:
    """The machine's properties by name; unknown properties are left out."""
    values = {**vars(describe_machine(root, nvml)), "power_mode": read_state(root, nvml).power_mode}
    return {name: str(value) for name, value in values.items() if value not in ("", None)}
