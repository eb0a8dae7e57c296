"""A whole run, from the data set to the best weights; the entry point of the `train` command."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.signals import Stopped, StopSignals
from googlenet_deploy.errors import GoogLeNetDeployError, InputError, requires
from googlenet_deploy.training.distributed import Processes, started_processes
from googlenet_deploy.training.log import RunLog, epoch_values
from googlenet_deploy.training.resume_state import (
    capture_state,
    check_same_run,
    epoch_record,
    load_state,
    restore_state,
    save_state,
)
from googlenet_deploy.training.setup import skipped_lines

with requires("train"):
    from googlenet_deploy.training.loop import RunControl
    from googlenet_deploy.training.setup import DataPlaces, Prepared, classifier_task, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.data.dataset import TrainingData
    from googlenet_deploy.training.loop import EpochResult, Trainer
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.resume_state import Outputs
    from googlenet_deploy.training.setup import MakeTask, Task
    from googlenet_deploy.training.validation import Validation

    Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run.

    Attributes:
        data: The data set.
        options: The options, with all chosen values filled in.
        best: The epoch whose weights were saved as the best; None if no epoch was completed.
        record: The training record that was saved with it.
        skipped: Images that could not be used.
        stopped: If the run was asked to stop, a description of what it left; otherwise empty.
        baseline: Validation before training, and of the imitated network, if one is imitated.
        is_first: Whether this process is the one that prints.
        history: The log's record of each epoch, including those before a --resume.
    """

    data: TrainingData
    options: TrainingOptions
    best: EpochResult | None
    record: dict[str, Any]
    skipped: tuple[Skipped, ...]
    stopped: str = ""
    baseline: tuple[Validation, Validation] | None = None
    is_first: bool = True
    history: tuple[Mapping[str, Any], ...] = ()


def is_complete(outputs: Outputs) -> bool:
    """Whether a run has written its result and left no state, as a completed run does."""
    return outputs.best.exists() and not outputs.state.exists()


def train(
    places: DataPlaces,
    outputs: Outputs,
    options: TrainingOptions,
    *,
    make_task: MakeTask = classifier_task,
    resume: bool = False,
    say: Say = lambda _: None,
    quiet: bool = False,
) -> TrainingResult:
    """Trains on images.

    After each epoch that is at least as accurate on the validation images as all earlier ones, the output is replaced
    atomically. A training state is saved every `save_every` steps, after each epoch, and when SIGTERM or Ctrl-C ask the
    run to stop.

    Args:
        places: The data set.
        outputs: The output files.
        options: All other options.
        make_task: Builds the network to train and its writer.
        resume: Resume from the training state if there is one.
        say: Receives progress messages.
        quiet: Show no progress.

    Raises:
        InputError: The data set or the state cannot be used.
        GoogLeNetDeployError: The loss is no longer a finite number, options contradict each other, or another
            process of the run has died.
        OutputError: A file cannot be written.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    with StopSignals() as stop, started_processes(options.device) as processes, ExitStack() as held:
        first = processes.is_first
        say, quiet = (say, quiet) if first else (_silent, True)
        if first:
            held.enter_context(outputs.lock())
        prepared = prepare(places, options, make_task, processes=processes, quiet=quiet)
        for line in prepared.notes:
            say(line)
        session = _session(prepared, outputs, processes, stop, say)
        stopped = ""
        try:
            _begin(session, prepared, outputs, processes, resume)
            session.run()
        except Stopped:
            stopped = session.state_in_words()
            if stop.received == signal.SIGINT:
                say(stopped)
                raise KeyboardInterrupt from None
        chosen = prepared.task.network.options
        return TrainingResult(
            data=prepared.task.data,
            options=chosen,
            best=session.best,
            record=session.best_record,
            skipped=(*prepared.skipped, *prepared.trainer.feed.skipped),
            stopped=stopped,
            baseline=session.baseline,
            is_first=first,
            history=tuple(session.history),
        )


def _session(prepared: Prepared, outputs: Outputs, processes: Processes, stop: StopSignals, say: Say) -> TrainingRun:
    log = RunLog(outputs.log, outputs.tensorboard) if processes.is_first else RunLog()
    return TrainingRun(
        prepared.task,
        prepared.trainer,
        prepared.record,
        prepared.task.data.classes,
        outputs=outputs,
        log=log,
        stop=stop,
        say=say,
    )


def _begin(session: TrainingRun, prepared: Prepared, outputs: Outputs, processes: Processes, resume: bool) -> None:
    found = processes.gather(outputs.state.exists())
    if len(set(found)) > 1:
        lacking = found.index(False)
        raise InputError(outputs.state, f"is not seen by process {lacking}", "put it where every machine can read it")
    if resume and found[0]:
        session.resume()
        return
    if resume:
        session.say(f"there is no {outputs.state} to resume from: a new run begins")
    elif found[0]:
        session.say(f"{outputs.state} is of an unfinished run; this new one replaces it (--resume continues it)")
    if processes.is_first:
        session.log.begin()
        skipped = [f"{item.name}: {item.reason}" for item in prepared.skipped]
        session.log.write("start", **prepared.record, skipped=skipped)
    session.measure_baseline()


def _silent(text: str) -> None:
    del text


class TrainingRun(RunControl):
    """Runs a trainer to its end, or until it is asked to stop.

    Args:
        task: What is trained and how it is saved.
        trainer: The trainer.
        record: The training record, without the values of an epoch.
        classes: The data set's classes.
        outputs: The output files.
        log: The logs.
        stop: Signals that request a stop.
        say: Receives progress messages.

    Attributes:
        best: The best epoch so far; None before the first one.
        last: The last completed epoch.
        best_record: The record saved with the best epoch.
        baseline: Validation before training, and of the imitated network; None if nothing is imitated or the run was
            resumed.
        history: The log's record of each epoch so far.
    """

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        record: dict[str, Any],
        classes: Sequence[str],
        *,
        outputs: Outputs,
        log: RunLog,
        stop: StopSignals,
        say: Callable[[str], None],
    ) -> None:
        self.task, self.trainer, self.record, self.classes = task, trainer, record, tuple(classes)
        self.outputs, self.log, self.stop, self.say = outputs, log, stop, say
        self.best: EpochResult | None = None
        self.last: EpochResult | None = None
        self.best_record = record
        self.history: list[Mapping[str, Any]] = []
        self.baseline: tuple[Validation, Validation] | None = None
        self.writes = trainer.processes.is_first
        self._saved, self._told = "", 0

    def resume(self) -> None:
        """Resumes from the saved state.

        Raises:
            BadWeightsError: The state is damaged or belongs to another run.
        """
        path = self.outputs.state
        state = load_state(path)
        notes = check_same_run(path, state, self.record, self.classes)
        self.best = restore_state(path, state, self.trainer)
        self.history = list(state.values.get("history", ()))
        if self.best is not None:
            self.best_record = {**self.record, **epoch_record(self.best)}
        self._saved = self._place()
        for line in (*notes, f"going on after {self._saved}"):
            self.say(line)
        if self.writes:
            self.log.begin(int(state.values["log"]), self.trainer.epoch)

    def measure_baseline(self) -> None:
        """Evaluates both networks before the first step, if one imitates the other."""
        reference = self.task.reference
        if reference is None:
            return
        evaluate, between = self.trainer.evaluate, self.while_measuring
        before, imitated = (evaluate(model, between) for model in (self.trainer.averaged_model, reference))
        self.baseline = before, replace(imitated, agreement=None)
        assert before.agreement is not None
        self.say(
            f"before training: {before.accuracy.percent:.2f} % in validation, {before.agreement.sqnr:.2f} dB from the"
            f" FP32 network's {imitated.accuracy.percent:.2f} %"
        )

    def run(self) -> None:
        """Trains to the end.

        Raises:
            Stopped: The run was asked to stop; its state is saved.
            GoogLeNetDeployError: It failed; what was saved last is kept.
        """
        start, begun = time.perf_counter(), self.trainer.epoch - 1 + self.trainer.step / self.trainer.steps
        try:
            for result in self.trainer.epochs(self):
                # A run that was stopped during validation has no step of the epoch left.
                done = max(result.epoch - begun, 1 / self.trainer.steps)
                left = (time.perf_counter() - start) / done * (self.trainer.options.epochs - result.epoch)
                self._after_epoch(result, left)
        except GoogLeNetDeployError as error:
            self.say(self.state_in_words())
            if self.writes:
                self.log.write("failed", message=error.message)
            raise
        except KeyboardInterrupt:  # the second Ctrl-C
            self.say(self.state_in_words())
            raise
        if self.writes and self.best is not None:
            accuracy = self.best.validation.accuracy.percent
            self.log.write("end", best_epoch=self.best.epoch, validation_accuracy_percent=accuracy)
            if self.baseline and self.task.score_of(self.best.validation) < self.task.score_of(self.baseline[0]):
                self.say("warning: training made the INT8 model worse than calibration alone does")
            self.outputs.state.unlink(missing_ok=True)

    def state_in_words(self) -> str:
        """A description of what an interrupted run leaves."""
        parts = []
        if self.best is not None:
            parts.append(f"{self.outputs.best} holds epoch {self.best.epoch}: {percent(self.best)} in validation")
        if self._saved:
            parts.append(f"{self.outputs.state} holds {self._saved}, from which --resume continues")
        return "; ".join(parts) or f"nothing was written to {self.outputs.best} yet"

    def stop_requested(self) -> bool:
        """Whether a signal asked this process to stop."""
        return self.stop.requested()

    def while_measuring(self) -> None:
        """Stops in the middle of a validation if this is the only process."""
        # Several processes cannot notify each other in the middle of a validation; they stop after the next step.
        if self.stop.requested() and self.trainer.processes.count == 1:
            self.after_step(stop=True)

    def note(self, text: str) -> None:
        """Reports what the trainer did, and logs it."""
        self.say(text)
        if self.writes:
            self.log.write("note", epoch=self.trainer.epoch, text=text)

    def after_step(self, *, stop: bool) -> None:
        """Saves the state every `save_every` steps, and before the run stops.

        Raises:
            Stopped: The run stops here; its state is saved.
        """
        trainer = self.trainer
        if stop:
            self._save()
            if self.writes:
                self.log.write("stopped", epoch=trainer.epoch, step=trainer.step)
            raise Stopped
        done = (trainer.epoch - 1) * trainer.steps + trainer.step
        if done % trainer.options.save_every == 0 and trainer.step < trainer.steps:
            self._save()

    def _after_epoch(self, result: EpochResult, left: float) -> None:
        # Of equally good epochs the later one wins: its learning rate is lower and its average longer.
        score = self.task.score_of
        is_best = result.epoch >= self.task.first_epoch and (
            self.best is None or score(result.validation) >= score(self.best.validation)
        )
        record = {**self.record, **epoch_record(result)}
        self.last = result
        self.history.append(epoch_values(result, is_best))
        if is_best:
            self.best, self.best_record = result, record
        if self.writes:
            paths = (self.outputs.best, self.outputs.last) if is_best else (self.outputs.last,)
            for path in paths:
                self.task.write(path, self.trainer.averaged_model, record)
            self.log.write_epoch(result, is_best)
        self._save()
        for line in skipped_lines(tuple(self.trainer.feed.skipped[self._told :])):
            self.say(line)
        self._told = len(self.trainer.feed.skipped)
        self.say(_epoch_line(result, self.trainer.options.epochs, left, is_best))

    def _save(self) -> None:
        state = capture_state(
            self.trainer,
            self.best,
            record=self.record,
            classes=self.classes,
            log=self.log.position(),
            history=self.history,
        )
        if self.writes:
            save_state(self.outputs.state, state)
        self._saved = self._place()

    def _place(self) -> str:
        if self.trainer.step == 0:
            return f"epoch {self.trainer.epoch - 1}"
        return f"step {self.trainer.step} of epoch {self.trainer.epoch}"


def percent(result: EpochResult) -> str:
    """An epoch's accuracy on the validation images."""
    return f"{result.validation.accuracy.percent:.2f} %"


def _epoch_line(result: EpochResult, epochs: int, left: float, best: bool) -> str:
    overflowed = f"  {result.left_out} steps left out: gradients overflowed" if result.left_out else ""
    near = result.validation.agreement
    beside = "" if near is None else f", {near.sqnr:.2f} dB from FP32"
    return (
        f"epoch {result.epoch}/{epochs}  loss {result.loss:.4f}  training {result.accuracy:.1f} %"
        f"  validation {percent(result)}{beside}{' (saved)' if best else ''}"
        f"  {result.images_per_second:,.0f} images/s  {int(left) // 60}:{int(left) % 60:02d} left{overflowed}"
    )
