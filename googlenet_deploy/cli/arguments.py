"""Groups of options that several commands share, and what they mean together."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from googlenet_deploy.device.options import add_options, given_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PREPROCESSING, PreprocessingOptions
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
    """What `choose_preprocessing` chooses for a model that is open.

    Raises:
        UsageError: See there.
    """
    spec = choose_preprocessing(arguments, runner.path, runner.metadata.preprocessing, runner.input.shape)
    if spec.frame is not None:
        resized = "; images of another size are resized to it first"
        print(f"note: the model takes {spec.describe_frame()}{resized}", file=sys.stderr)
    if getattr(arguments, "image_backend", "") == "opencv":
        print("note: OpenCV's resize differs from the one that the network was trained with", file=sys.stderr)
    return spec


def stated_preprocessing(arguments: argparse.Namespace, path: str) -> Optional[Preprocessing]:
    """What the options say about the images of an ONNX file, without running it; None where no option is given.

    Raises:
        BadModelError: The file is no ONNX model.
        UsageError: See `choose_preprocessing`.
    """
    if not given_options(arguments, PreprocessingOptions):
        return None
    from googlenet_deploy.device.onnx_model.header import read_onnx

    header = read_onnx(path)
    shape = tuple(side if isinstance(side, int) else None for side in header.inputs[0].shape) if header.inputs else ()
    if len(shape) != 4:
        raise BadModelError(path, "has no input of rank 4, so it takes no images")
    return choose_preprocessing(arguments, path, header.metadata.preprocessing, shape)


def choose_preprocessing(
    arguments: argparse.Namespace, path: str, own: Optional[Preprocessing], shape: Tuple[Optional[int], ...]
) -> Preprocessing:
    """The model's own preprocessing, or what the options say; where both speak the options win, and that is reported.

    Where neither options nor file state a crop, it is the model's input, whatever is known of the model: the options
    that suit an FP32 model suit the INT8 model made from it.

    Args:
        arguments: The command line.
        path: The model's file.
        own: What the model says.
        shape: Of its input, with None for open dimensions.

    Raises:
        UsageError: The model says nothing and neither do the options, or they make no sense.
    """
    from dataclasses import asdict

    from googlenet_deploy.device.specification import Preprocessing, describe_difference, preprocessing_fields

    options = read_options(arguments, PreprocessingOptions)
    changes = options.changes()
    if own is not None and own.frame is not None:
        why = f"would change nothing: {path} takes {own.describe_frame()} and prepares them itself"
        refuse_given(arguments, PreprocessingOptions, why)
    if options.preprocessing:
        named, stated = preprocessing_fields(options.preprocessing)
        geometry = _geometry(shape, changes.get("resize_mode", named.get("resize_mode", "short-side")))
        size = geometry.get("crop")
        if "crop" in stated and size is not None and named["crop"] != list(size) and "crop" not in changes:
            raise UsageError(
                f"{options.preprocessing}: a crop of {named['crop']} is not the input of {path}, {list(size)}",
                "leave crop out of the file, or correct it",
            )
        geometry = {key: value for key, value in geometry.items() if key not in stated}
        spec = Preprocessing.from_dict({**named, **geometry, **changes})
    elif own is not None:
        spec = Preprocessing.from_dict({**asdict(own), **changes})
    elif {"scale", "mean", "std"} & set(changes):
        spec = _from_options({**_geometry(shape, changes.get("resize_mode", "short-side")), **changes})
    else:
        raise UsageError(
            f"{path}: the model does not say how its images are prepared",
            "give --preprocessing imagenet, torchvision, bvlc or a JSON file, or --scale, --mean and --std",
        )
    for key, (chosen, models) in (describe_difference(spec, own) if own is not None else {}).items():
        print(f"note: {key} is {chosen} as the options say; the model was made for {models}", file=sys.stderr)
    return spec


def module_preprocessing(arguments: argparse.Namespace, declared: Optional[Preprocessing]) -> Preprocessing:
    """What a PyTorch model declares, refined or replaced by the options.

    Raises:
        UsageError: Neither says how images are prepared, or the options make no sense.
    """
    from dataclasses import replace

    from googlenet_deploy.device.specification import read_preprocessing

    options = read_options(arguments, PreprocessingOptions)
    base = read_preprocessing(options.preprocessing) if options.preprocessing else declared
    changes = options.changes()
    if base is not None:
        return replace(base, **changes)
    if not {"crop", "mean", "std"} <= set(changes):
        raise UsageError(
            f"{arguments.module}: the model does not say how its images are prepared",
            "give --preprocessing imagenet, torchvision, plain or a JSON file, or --crop, --mean and --std",
        )
    # As torchvision's ToTensor scales pixels; the whole image's short side where no resize is asked for.
    usual = {"scale": 1 / 255, "resize": None if "resize_mode" in changes else max(changes["crop"])}
    return _from_options({**usual, **changes})


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
    from googlenet_deploy.device.class_files import read_class_list
    from googlenet_deploy.device.labels import imagenet_classes

    if arguments.class_names == "imagenet":
        return tuple(entry.name for entry in imagenet_classes())
    if arguments.class_names:
        found = read_class_list(arguments.class_names)
        if found.form:
            print(
                f"note: {arguments.class_names}: {len(found.names)} class names, read as {found.form}", file=sys.stderr
            )
        return found.names
    return own


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


def _geometry(shape: Tuple[Optional[int], ...], resize_mode: str) -> Dict[str, Any]:
    """Crop, layout and resize that the shape of a model's input suggests."""
    layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
    height, width = (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])
    if height is None or width is None:
        return {"layout": layout}
    # The usual ratio of resize to crop, 256 to 224; a stretch or a letterbox usually ends in the crop itself.
    resize = round(max(height, width) * 256 / 224) if resize_mode == "short-side" else None
    return {"layout": layout, "crop": (height, width), "resize": resize}


def _from_options(changes: Dict[str, Any]) -> Preprocessing:
    from googlenet_deploy.device.specification import Preprocessing

    count = len(changes.get("channels", "RGB"))
    plain = {"scale": 1.0, "mean": (0.0,) * count, "std": (1.0,) * count}
    return Preprocessing(**{**plain, **changes})


def check_class_count(names: Tuple[str, ...], count: int, path: str) -> None:
    """Refuses names that do not fit the model's classes.

    Raises:
        BadModelError: There are names, but not one per class.
    """
    if names and len(names) != count:
        from googlenet_deploy.device.labels import count_mismatch

        what = f"has {count} classes, but there are {len(names)} class names"
        raise BadModelError(path, what, count_mismatch(count, names))


def gate(text: str) -> Tuple[str, float]:
    """``name=value`` for --require, for argparse."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), float(value)


def optional_output(path: Optional[str]) -> bool:
    """Whether an output was asked for and is a file, not standard output."""
    return path is not None and path != "-"
