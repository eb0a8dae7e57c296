"""Groups of options that several commands share, and what they mean together."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from googlenet_deploy.device.options import add_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import (
    OPENCV_DIFFERS,
    PREPROCESSING,
    PreprocessingOptions,
    runner_preprocessing,
)
from googlenet_deploy.device.runner.select import RUNNING, GpuOptions, RunnerOptions, runs_engine
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.device.tune.options import TunedOptions
from googlenet_deploy.errors import BadModelError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

SHOWN = 10
_GPU = "gpu_"  # ahead of `GpuOptions` in the namespace: benchmark has --streams of another kind


def add_preprocessing_options(parser: argparse.ArgumentParser) -> None:
    """How images are prepared, for models that do not say so themselves."""
    parser.add_argument_group(
        PREPROCESSING, "Models that this toolkit exported carry their own; for others these options are needed."
    )
    add_options(parser, PreprocessingOptions)


def add_runner_options(parser: argparse.ArgumentParser, *, leave_out: Sequence[str] = ()) -> None:
    """What runs the model, and how images are fed to it, but for the fields that `leave_out` names."""
    add_options(parser, FrameOptions, leave_out=leave_out)
    add_options(parser, RunnerOptions, leave_out=leave_out)
    option_group(parser, RUNNING).add_argument("--quiet", action="store_true", help="show no progress")


def refuse_unused(arguments: argparse.Namespace, defaults: Mapping[str, object], why: str) -> None:
    """Refuses options that nothing would read, instead of ignoring them silently.

    Args:
        arguments: The command line.
        defaults: The options, by their names in `arguments`, with the values that they have when they are not given.
        why: Ends the sentence that begins with the option.

    Raises:
        UsageError: One of them was given.
    """
    for name, default in defaults.items():
        if getattr(arguments, name) != default:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


def add_gpu_options(parser: argparse.ArgumentParser, *, leave_out: Sequence[str] = ()) -> None:
    """How an engine runs, but for the fields that `leave_out` names."""
    add_options(parser, GpuOptions, leave_out=leave_out, prefix=_GPU)


def use_tuned(arguments: argparse.Namespace, *, batch: str = "batch_size") -> None:
    """Takes the model and what was not given from the ``tuned.json`` that --tuned names; without it, does nothing.

    Args:
        arguments: The command line; changed.
        batch: The option of the batch size: "batch_size", or "batches" of a command that takes several of batches
            and streams.

    Raises:
        InputError: See `tuned_choice`.
    """
    path = read_options(arguments, TunedOptions).tuned
    if path is None:
        return
    from googlenet_deploy.device.tune.apply import tuned_choice

    file, setting, engine, notes = tuned_choice(path, arguments.model)
    several = batch == "batches"
    values: Dict[str, Any] = {batch: (setting.batch,) if several else setting.batch, "backend": setting.backend}
    values.update({"threads": setting.threads} if setting.threads is not None else {})
    values.update({f"{_GPU}cuda_graph": setting.cuda_graph} if engine else {})
    values.update({"streams": (setting.streams,)} if several else {f"{_GPU}streams": setting.streams} if engine else {})
    if setting.streams > 1 and not several and not engine:
        notes.append(f"{path} has {setting.streams} streams; on a CPU one batch is run at a time")
    arguments.model = str(file)
    for name, value in values.items():
        given = getattr(arguments, name, value)
        if given != value:
            notes.append(f"{name.replace(_GPU, '').replace('_', ' ')} is {given} as given; {path} has {value}")
        setattr(arguments, name, given)
    for note in notes:
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)


def engine_options(arguments: argparse.Namespace) -> GpuOptions:
    """What `add_gpu_options` asked for, whatever the models are.

    Raises:
        UsageError: A value is out of range.
    """
    return read_options(arguments, GpuOptions, prefix=_GPU)


def gpu_options(arguments: argparse.Namespace) -> GpuOptions:
    """What `add_gpu_options` asked for.

    Raises:
        UsageError: The model is none that the options would apply to, or one is out of range.
    """
    if not runs_engine(arguments.model, read_options(arguments, RunnerOptions).backend):
        refuse_given(arguments, GpuOptions, f"is for engines, which {arguments.model} is not", prefix=_GPU)
    return engine_options(arguments)


def resolve_preprocessing(arguments: argparse.Namespace, runner: Runner) -> Preprocessing:
    """What `runner_preprocessing` chooses by the options.

    Raises:
        UsageError: See there.
    """
    spec = runner_preprocessing(read_options(arguments, PreprocessingOptions), runner, print_note)
    if getattr(arguments, "image_backend", "") == "opencv":
        print_note(OPENCV_DIFFERS)
    return spec


def print_note(line: str) -> None:
    """Prints a line that the user should read to stderr; names from files are printed safely."""
    print(f"note: {printable(line, LONGEST_LINE)}", file=sys.stderr, flush=True)


def report_skipped(skipped: List[Skipped], other_files: List[str], count: Optional[int] = None) -> None:
    """Says on stderr which images could not be used, and how many files were none.

    Args:
        skipped: The images, or the first ones of them.
        other_files: Files that are no images.
        count: How many images could not be used; None where `skipped` has them all.
    """
    for item in skipped[:SHOWN]:
        print(f"skipped: {printable(item.name)}: {printable(item.reason, LONGEST_LINE)}", file=sys.stderr)
    left = (len(skipped) if count is None else count) - min(len(skipped), SHOWN)
    if left > 0:
        print(f"skipped: ... and {left} more", file=sys.stderr)
    if other_files:
        from googlenet_deploy.device.images.folders import describe_left_out

        print(f"note: {printable(describe_left_out(other_files), LONGEST_LINE)}", file=sys.stderr)


def class_names(arguments: argparse.Namespace, own: Tuple[str, ...]) -> Tuple[str, ...]:
    """Class names from --class-names, or the model's own; empty where neither has any."""
    from googlenet_deploy.device.class_files import choose_class_list

    return choose_class_list(arguments.class_names, own, report=print_note).names


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def not_negative(text: str) -> int:
    """An integer of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def check_class_count(names: Tuple[str, ...], count: int, path: str) -> None:
    """Refuses names that do not fit the model's classes.

    Raises:
        BadModelError: There are names, but not one per class.
    """
    if names and len(names) != count:
        from googlenet_deploy.device.labels import count_mismatch

        what = f"has {count} classes, but there are {len(names)} class names"
        raise BadModelError(path, what, count_mismatch(count, names))


def optional_output(path: Optional[str]) -> bool:
    """Whether an output was asked for and is a file, not standard output."""
    return path is not None and path != "-"
