"""Classify images, videos, a camera, or new images in a watched folder.

MODEL is an ONNX model, or an engine that build made. PATH is an image, a folder (searched with its subfolders), a
pattern such as 'photos/*.jpg', - for standard input (an image, or one path per line), a video file, camera:0 or
/dev/video0 (the first camera), csi:0 (a Jetson's CSI camera), an rtsp:// or http:// address, or a GStreamer pipeline
ending in appsink. An image or a video file is processed to its end at any address; other addresses are live streams.
Images and frames that cannot be used are named, counted and skipped. Ctrl-C and SIGTERM end after the current batch.

--serve answers HTTP requests until it is stopped: POST /classify (the image file as body), GET /stream (a live page
with the frames of the camera or video, their classes and latency), GET /metrics (Prometheus), GET /healthz.

Examples:
  googlenet-infer model.onnx photo.jpg
  googlenet-infer model.engine photos/ --top-k 1 --csv answers.csv
  googlenet-infer model.onnx 'shots/*.png' --json - --batch 16
  googlenet-infer model.onnx clip.mp4 --annotate annotated.mp4 --json answers.jsonl
  googlenet-infer model.engine rtsp://camera.local/stream --max-latency 50 --json -
  googlenet-infer model.onnx --watch inbox/ --csv answers.csv
  googlenet-infer model.engine camera:0 --serve --capture-low-confidence unsure/
  googlenet-infer model.engine photos/ --tuned tuned.json
  googlenet-infer other.onnx photo.jpg --preprocessing imagenet --class-names imagenet
"""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, List

from googlenet_deploy.cli.arguments import (
    add_gpu_options,
    add_preprocessing_options,
    add_runner_options,
    class_names,
    gpu_options,
    not_negative,
    positive,
    print_note,
    refuse_unused,
    report_skipped,
    resolve_preprocessing,
    use_tuned,
)
from googlenet_deploy.device.options import add_options, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.runner.select import GpuOptions, RunnerOptions
from googlenet_deploy.device.serve.options import DEFAULT_ADDRESS, ServeOptions
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import counted, printable
from googlenet_deploy.device.tune.options import TunedOptions
from googlenet_deploy.errors import GoogLeNetDeployError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Batch
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.signals import StopSignals
    from googlenet_deploy.device.stream.annotate import Annotations
    from googlenet_deploy.device.stream.answers import Answer
    from googlenet_deploy.device.stream.classify import Tally
    from googlenet_deploy.device.stream.frames import FrameBatches
    from googlenet_deploy.device.stream.inputs import StreamInputs

LIVE_LATENCY = 0.1
SIGNALLED = 128  # a shell's exit status of a program that a signal ended


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model, or an engine")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, folders, patterns, -, videos, a camera")
    parser.add_argument("--watch", metavar="FOLDER", help="classify the images that appear in a folder, as they come")
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes shown per image (default 5)")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")
    parser.add_argument(
        "--json", metavar="FILE", help="write one JSON object per image and line; - for standard output"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table; - for standard output")
    parser.add_argument(
        "--annotate", metavar="PATH", help="draw the classes on the frames: a folder, x.mp4 or x.avi, or one x.png"
    )
    parser.add_argument(
        "--reconnect",
        type=not_negative,
        metavar="N",
        help="open a camera or stream that breaks or falls silent again, up to N times in a row, after waits of 1, 2, "
        "4 ... 30 s (default: 4 for streams of the network, 0 for cameras of this machine)",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        const=DEFAULT_ADDRESS,
        metavar="ADDRESS",
        help=f"answer HTTP requests on HOST:PORT (default {DEFAULT_ADDRESS}); write inputs before it",
    )
    add_options(parser, ServeOptions)
    add_runner_options(parser)
    add_options(parser, TunedOptions)
    add_gpu_options(parser)
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classifies what comes and writes the answers as they come."""
    from googlenet_deploy.device.runner.select import open_runner
    from googlenet_deploy.device.signals import SIGNALS, StopSignals
    from googlenet_deploy.device.stream.classify import Tally
    from googlenet_deploy.device.stream.inputs import open_inputs

    if arguments.json == "-" and arguments.csv == "-":
        raise UsageError("--json - and --csv - cannot both be on standard output", "write one of them to a file")
    use_tuned(arguments)
    running, frames = read_options(arguments, RunnerOptions), read_options(arguments, FrameOptions)
    gpu = gpu_options(arguments)
    read_options(arguments, PreprocessingOptions)  # refuses what is out of range before a model is opened
    stop, tally = threading.Event(), Tally()
    if arguments.serve is not None:
        return _serve(arguments, running, frames, gpu, stop)
    refuse_given(arguments, ServeOptions, "is for --serve")
    inputs = open_inputs(arguments.paths, arguments.watch, stop, reconnect=arguments.reconnect, report=print_note)
    _check_reconnect(arguments, inputs)
    with open_runner(
        arguments.model,
        running.backend,
        threads=running.threads,
        batch=frames.batch_size,
        as_is=running.as_is,
        gpu=gpu,
    ) as runner:
        try:
            with StopSignals(stop, insistent=SIGNALS) as signals:
                _stream(arguments, runner, inputs, frames, stop, tally, signals)
        finally:
            _summarise(inputs, tally, runner)
    if signals.received is not None and not inputs.endless:
        print("note: stopped by a signal; the answers are those of the images until then", file=sys.stderr)
        return SIGNALLED + signals.received
    return 0


def _serve(
    arguments: argparse.Namespace,
    running: RunnerOptions,
    frames: FrameOptions,
    gpu: GpuOptions,
    stop: threading.Event,
) -> int:
    from googlenet_deploy.device.serve.run import serve
    from googlenet_deploy.device.signals import SIGNALS, StopSignals

    unread = dict.fromkeys(("watch", "json", "csv", "annotate"))
    refuse_unused(arguments, unread, "is not for --serve, whose answers go to those who ask")
    with StopSignals(stop, insistent=SIGNALS):
        images = serve(
            arguments.model,
            *arguments.paths,
            address=arguments.serve,
            options=read_options(arguments, ServeOptions),
            running=running,
            frames=frames,
            gpu=gpu,
            preprocessing=read_options(arguments, PreprocessingOptions),
            class_names=arguments.class_names,
            top_k=arguments.top_k,
            reconnect=arguments.reconnect,
            stop=stop,
            report=print_note,
        )
    print(f"{counted(images, 'image')}, stopped by a signal", file=sys.stderr)
    return 0


def _check_reconnect(arguments: argparse.Namespace, inputs: StreamInputs) -> None:
    if inputs.reconnecting is None:
        refuse_unused(arguments, {"reconnect": None}, "is for cameras and streams, which have no end")


def _stream(
    arguments: argparse.Namespace,
    runner: Runner,
    inputs: StreamInputs,
    options: FrameOptions,
    stop: threading.Event,
    tally: Tally,
    signals: StopSignals,
) -> None:
    from googlenet_deploy.device.progress import progress
    from googlenet_deploy.device.stream.classify import classify

    for note in inputs.notes:
        print_note(note)
    names = class_names(arguments, runner.metadata.class_names)
    with ExitStack() as stack:
        write, annotations = _outputs(arguments, inputs, stack)
        batches = _batches(arguments, runner, inputs, options, stop, tally)
        quiet = arguments.quiet or (inputs.endless and not sys.stderr.isatty())
        advance = stack.enter_context(progress("classify", inputs.total, quiet=quiet))

        def on_answers(batch: Batch, answers: List[Answer]) -> None:
            write(answers)
            if annotations is not None and batch.images is not None:
                annotations.write(batch.images, answers)
            advance(len(answers))

        try:
            classify(runner, batches, names, arguments.top_k, tally, on_answers)
        finally:
            _report_losses(batches, annotations)
        if not tally.answered and not inputs.endless:
            if signals.requested():  # nothing to keep, so what stood at the outputs' places stays
                raise KeyboardInterrupt
            raise GoogLeNetDeployError(f"no image could be used ({tally.skipped} skipped)")


def _batches(
    arguments: argparse.Namespace,
    runner: Runner,
    inputs: StreamInputs,
    options: FrameOptions,
    stop: threading.Event,
    tally: Tally,
) -> FrameBatches:
    from googlenet_deploy.device.stream.frames import FrameBatches
    from googlenet_deploy.device.stream.inputs import silence_of

    options = replace(
        options,
        max_latency=LIVE_LATENCY if options.max_latency is None and inputs.endless else options.max_latency,
        keep_images=arguments.annotate is not None,
        live=inputs.live,
        silence=silence_of(inputs),
    )
    spec = resolve_preprocessing(arguments, runner)
    return FrameBatches(inputs.frames, spec, options, on_skipped=tally.skip, stop=stop)


def _outputs(
    arguments: argparse.Namespace, inputs: StreamInputs, stack: ExitStack
) -> tuple[Callable[[List[Answer]], None], Annotations | None]:
    from googlenet_deploy.device.stream import answers as forms

    files = []
    for path, form, heading in (
        (arguments.json, forms.json_line, ""),
        (arguments.csv, forms.csv_lines, forms.CSV_HEADING),
    ):
        if path is not None:
            files.append(forms.AnswerFile(path, form, heading, at_once=inputs.endless))
    if not files:
        files.append(forms.AnswerFile(forms.STDOUT, forms.table_lines))
    opened = [stack.enter_context(file) for file in files]
    annotations = None
    if arguments.annotate is not None:
        from googlenet_deploy.device.stream.annotate import Annotations

        annotations = stack.enter_context(
            Annotations(arguments.annotate, single=inputs.total == 1, rate=inputs.rate, time_of=inputs.time_of)
        )

    def write(answers: List[Answer]) -> None:
        for file in opened:
            file.write(answers)

    return write, annotations


def _report_losses(batches: FrameBatches, annotations: Annotations | None) -> None:
    if batches.dropped:
        print(f"note: {batches.dropped} frames came too fast and were dropped", file=sys.stderr)
    if batches.first_size is not None and batches.spec.frame is not None:
        theirs, ours = (" x ".join(map(str, size)) for size in (batches.first_size, batches.spec.frame))
        print_note(
            f"resized {counted(batches.resized, 'frame')}, the first of {theirs}, to the {ours} that the model accepts"
        )
    if annotations is not None and annotations.resized:
        print(
            f"note: resized {counted(annotations.resized, 'frame')} to the size of the video's first", file=sys.stderr
        )


def _summarise(inputs: StreamInputs, tally: Tally, runner: Runner) -> None:
    report_skipped(tally.first_skipped, inputs.other_files, tally.skipped)
    _report_left_over(inputs)
    for note in (*inputs.closing_notes(), *runner.notes):
        print_note(note)
    rate = f"{tally.answered / tally.seconds:.1f} images/s" if tally.answered else "nothing classified"
    print(f"{counted(tally.answered, 'image')}, {tally.skipped} skipped, {rate}, {runner.backend}", file=sys.stderr)


def _report_left_over(inputs: StreamInputs) -> None:
    try:
        names = inputs.left_over() if inputs.left_over is not None else []
    except GoogLeNetDeployError:  # the watched folder is gone, which was said
        return
    if names:
        left = f"{counted(len(names), 'image')} empty, not complete or too late"
        print(f"note: not classified: {left}, such as {printable(names[0])}", file=sys.stderr)
