"""A whole run, from the data set to the best weights; the entry point of the `train` command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import InputError, requires
from googlenet_deploy.training.distributed import Processes, started_processes
from googlenet_deploy.training.log import RunLog
from googlenet_deploy.training.stop import Stopped, StopSignals

with requires("train"):
    from googlenet_deploy.training.prepare import DataPlaces, Prepared, prepare
    from googlenet_deploy.training.session import Session
    from googlenet_deploy.training.task import classifier_task

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.data import TrainingData
    from googlenet_deploy.training.loop import EpochResult
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.outputs import Outputs
    from googlenet_deploy.training.prepare import MakeTask
    from googlenet_deploy.training.validation import Validation

    Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """The outcome.

    Attributes:
        data: The data set.
        options: The options, with everything that was chosen.
        best: The epoch whose weights were saved as the best; None where none ended.
        record: The training record that was saved with it.
        skipped: Images that could not be used.
        stopped: Where the run was asked to stop: what it left, in words; else empty.
        baseline: What an imitating network did before it was trained, and the network that it imitates.
        is_first: Whether this process is the one that speaks.
    """

    data: TrainingData
    options: TrainingOptions
    best: EpochResult | None
    record: dict[str, Any]
    skipped: tuple[Skipped, ...]
    stopped: str = ""
    baseline: tuple[Validation, Validation] | None = None
    is_first: bool = True


def is_complete(outputs: Outputs) -> bool:
    """Whether a run has written its result and left no state, as a run that came to its end does."""
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

    After each epoch that is at least as accurate on the validation images as all before, the output is replaced,
    atomically. A training state is saved every so many steps, after each epoch, and when SIGTERM or Ctrl-C ask the
    run to stop.

    Args:
        places: The data set.
        outputs: Where files go.
        options: Everything else.
        make_task: Builds what is trained, and says how it is written.
        resume: Go on from the training state where there is one.
        say: Receives lines for people.
        quiet: Show no progress.

    Raises:
        InputError: The data set or the state cannot be used.
        GoogLeNetDeployError: The loss is not a finite number any more, options contradict each other, or another
            process of the run has died.
        OutputError: A file cannot be written.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    with StopSignals() as stop, started_processes(options.device) as processes:
        first = processes.is_first
        say, quiet = (say, quiet) if first else (_silent, True)
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
        )


def _session(prepared: Prepared, outputs: Outputs, processes: Processes, stop: StopSignals, say: Say) -> Session:
    log = RunLog(outputs.log, outputs.tensorboard) if processes.is_first else RunLog()
    return Session(
        prepared.task,
        prepared.trainer,
        prepared.record,
        prepared.task.data.classes,
        outputs=outputs,
        log=log,
        stop=stop,
        say=say,
    )


def _begin(session: Session, prepared: Prepared, outputs: Outputs, processes: Processes, resume: bool) -> None:
    found = processes.gather(outputs.state.exists())
    if len(set(found)) > 1:
        lacking = found.index(False)
        raise InputError(outputs.state, f"is not seen by process {lacking}", "put it where every machine can read it")
    if resume and found[0]:
        session.resume()
        return
    if resume:
        session.say(f"there is no {outputs.state} to go on from: a new run begins")
    elif found[0]:
        session.say(f"{outputs.state} is of an unfinished run; this new one replaces it (--resume goes on instead)")
    if processes.is_first:
        session.log.begin()
        skipped = [f"{item.name}: {item.reason}" for item in prepared.skipped]
        session.log.write("start", **prepared.record, skipped=skipped)
    session.measure_baseline()


def _silent(text: str) -> None:
    del text
