"""Train a classifier from images.

--data is a folder that holds train/CLASS/image and val/CLASS/image, or CLASS/image, of which a share is held out; a
table of file names and labels (.csv, .tsv, .txt) in any form that `evaluate` reads, perhaps with a column of train and
val; the original CIFAR-10 or CIFAR-100 archive, binary or Python; or WebDataset shards of KEY.jpg and KEY.cls, for data
sets larger than a disk (files, https://..., or pipe:COMMAND, which is run).

The output is replaced after each epoch whose validation accuracy is at least as high as any before. The last epoch's
weights (model.last.safetensors) and, until the run is complete, its state (model.state.safetensors) are written beside
it. SIGTERM and Ctrl-C save the state; the same command with --resume continues from it. Checkpoints carry class names,
preprocessing and a record of the run; `export` converts them to ONNX.

With --prune a trained network loses whole channels, in steps with training between and after them, while it imitates
the network that it was; the output is a smaller dense network, which every other command takes as any checkpoint.
--distill-from names a network to imitate in any training.

With --qat the training is quantisation-aware: it starts from an FP32 model that `export` wrote and the table that
`calibrate` made for it, and the output is the INT8 model that `quantize` would write, with learned weights and scales.

Examples:
  googlenet-deploy train --data photos/ --output model.safetensors
  googlenet-deploy train --data digits/ --output digits.safetensors --width 0.25 --input-size 64 --augmentation light
  googlenet-deploy train --data photos/ --output model.safetensors --weights bvlc --freeze trunk --epochs 10
  googlenet-deploy train --data cifar-10-binary.tar.gz --architecture plain --resize-mode stretch --epochs 10
    --optimizer adam --lr 1e-5 --output plain.safetensors
  googlenet-deploy train --data labels.csv --images photos/ --output model.safetensors --weights torchvision --lr 0.01
  googlenet-deploy train --data photos/ --output sparse.safetensors --weights model.safetensors --sparsity 2:4
  googlenet-deploy train --data photos/ --output small.safetensors --weights model.safetensors --prune 0.5 --epochs 10
  googlenet-deploy train --data photos/ --output narrow.safetensors --width 0.5 --distill-from model.safetensors
  googlenet-deploy train --data photos/ --qat model.onnx --table table.json --output model.int8.onnx --epochs 3
  googlenet-deploy train --data 'train-{000..146}.tar' --validation 'val-{00..09}.tar' --output model.safetensors
  torchrun --nproc-per-node 4 -m googlenet_deploy train --data photos/ --output model.safetensors --precision bf16
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.resume_state import Outputs
    from googlenet_deploy.training.run import TrainingResult
    from googlenet_deploy.training.setup import DataPlaces, MakeTask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from googlenet_deploy.device.options import add_options, option_group
    from googlenet_deploy.training.options import IMAGES, QAT, QatOptions, TrainingOptions
    from googlenet_deploy.training.pruning.options import PruningOptions

    parser.add_argument(
        "--data", required=True, metavar="PLACE", help="folder of images by class, CSV file, CIFAR archive, or shards"
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where the checkpoint goes (.safetensors), or the INT8 model"
    )
    parser.add_argument("--resume", action="store_true", help="resume from the state of an unfinished run, if any")
    _add_report_arguments(parser.add_argument_group("report"))
    _add_place_arguments(option_group(parser, IMAGES))
    add_options(parser, TrainingOptions)
    add_options(parser, PruningOptions)
    _add_qat_arguments(option_group(parser, QAT))
    add_options(parser, PlacementOptions)
    add_options(parser, QatOptions)


def _add_report_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--log", metavar="FILE", help="follow the run: a row per epoch (.csv), or lines of JSON")
    group.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard")
    group.add_argument(
        "--report", metavar="FILE", help="draw loss and accuracy of every epoch: a page (.html), and a .png beside it"
    )
    group.add_argument("--json", metavar="FILE", help="write the result: accuracy by class, confusion matrix")
    group.add_argument("--quiet", action="store_true", help="print only the result")


def _add_place_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--validation", metavar="PLACE", help="images to measure with, of the same kind as --data")
    group.add_argument("--images", metavar="DIR", help="folder of the files that a CSV lists (default: its own)")
    group.add_argument("--class-names", metavar="FILE", help="of shards, a name per line (default: their classes.txt)")


def _add_qat_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--qat", metavar="MODEL", help="start from this FP32 ONNX model; the output is INT8 (.onnx)")
    group.add_argument("--table", metavar="FILE", help="its calibration table")
    group.add_argument(
        "--method", metavar="M", help="thresholds of the table to start from (default: the table's own choice)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    _check_names(arguments)
    options, outputs = _options(arguments), _outputs(arguments)
    from googlenet_deploy.training.run import is_complete, train

    if arguments.resume and is_complete(outputs):
        print(f"{outputs.best}: this run is complete; leave --resume out to begin a new one")
        if arguments.report:
            print("  no report was written: a complete run leaves no record of its epochs; --log keeps one")
        return 0
    result = train(
        _places(arguments),
        outputs,
        options,
        make_task=_make_task(arguments),
        resume=arguments.resume,
        say=_ignore if arguments.quiet else _note,
        quiet=arguments.quiet,
    )
    if result.is_first:
        _draw(result, arguments)
        _report(result, arguments)
    return 0


def _check_names(arguments: argparse.Namespace) -> None:
    if arguments.qat and not arguments.table:
        raise UsageError("--qat needs --table: `googlenet-deploy calibrate` makes it")
    if arguments.table and not arguments.qat:
        raise UsageError("--table belongs to --qat")
    _check_owners(arguments)
    suffix, what = (".onnx", "an INT8 model") if arguments.qat else (".safetensors", "a checkpoint")
    if not str(arguments.output).endswith(suffix):
        raise UsageError(f"--output {arguments.output}: {what}'s name ends in {suffix}")
    if arguments.report and not arguments.report.endswith(".html"):
        raise UsageError(f"--report {arguments.report}: the page's name ends in .html; the picture is written beside")


def _check_owners(arguments: argparse.Namespace) -> None:
    """Refuses options of a kind of training that was not asked for."""
    from googlenet_deploy.device.options import refuse_given
    from googlenet_deploy.training.options import QatOptions
    from googlenet_deploy.training.pruning.options import PruningOptions

    prunes = hasattr(arguments, "share")
    if not arguments.qat:
        refuse_given(arguments, QatOptions, "belongs to --qat")
    if not prunes:
        refuse_given(arguments, PruningOptions, "belongs to --prune")
    if prunes and arguments.qat:
        raise UsageError("--prune and --qat exclude each other", "prune first, export the result, then use --qat")
    if hasattr(arguments, "distillation") and not (arguments.qat or prunes or hasattr(arguments, "distill_from")):
        raise UsageError("--distillation sets how much to imitate a network: name it with --distill-from")


def _make_task(arguments: argparse.Namespace) -> MakeTask:
    if arguments.qat:
        return _qat_task(arguments)
    if hasattr(arguments, "share"):
        from googlenet_deploy.training.pruning.task import pruning_task

        return pruning_task
    from googlenet_deploy.training.setup import classifier_task

    return classifier_task


def _qat_task(arguments: argparse.Namespace) -> MakeTask:
    from googlenet_deploy.device.options import read_options
    from googlenet_deploy.quantization.quantize import QuantizationOptions
    from googlenet_deploy.training.qat.task import qat_task

    quantization = QuantizationOptions(placement=read_options(arguments, PlacementOptions), method=arguments.method)
    return qat_task(arguments.qat, arguments.table, quantization, quiet=arguments.quiet)


def _options(arguments: argparse.Namespace) -> TrainingOptions:
    from googlenet_deploy.device.options import given_options
    from googlenet_deploy.training.options import QatOptions, TrainingOptions, implied
    from googlenet_deploy.training.pruning.options import PruningOptions

    given = given_options(arguments, TrainingOptions)
    qat = QatOptions(**given_options(arguments, QatOptions)) if arguments.qat else None
    pruning = PruningOptions(**given_options(arguments, PruningOptions)) if hasattr(arguments, "share") else None
    return TrainingOptions(**{**implied(given), **given}, qat=qat, pruning=pruning)


def _outputs(arguments: argparse.Namespace) -> Outputs:
    from pathlib import Path

    from googlenet_deploy.training.resume_state import Outputs

    return Outputs(
        best=Path(arguments.output),
        log=Path(arguments.log) if arguments.log else None,
        tensorboard=Path(arguments.tensorboard) if arguments.tensorboard else None,
    )


def _places(arguments: argparse.Namespace) -> DataPlaces:
    from googlenet_deploy.training.setup import DataPlaces

    return DataPlaces(arguments.data, arguments.validation, arguments.images, arguments.class_names)


def _draw(result: TrainingResult, arguments: argparse.Namespace) -> None:
    """Writes the report of the epochs so far, those ahead of a --resume included."""
    if not arguments.report:
        return
    if not result.history:
        print("no report was written: no epoch has ended", file=sys.stderr)
        return
    from pathlib import Path

    from googlenet_deploy.report.training_history import write_training_report

    page, picture = write_training_report(arguments.report, result.history, Path(arguments.output).name)
    print(f"Report: {page}, {picture}", file=sys.stderr)


def _report(result: TrainingResult, arguments: argparse.Namespace) -> None:
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.training.summary import comparison_line, result_lines, result_values, validation_values

    if result.stopped:
        print(f"stopped: {result.stopped}")
        return
    assert result.best is not None
    names = result.data.class_names
    print(f"{result.data.root} -> {arguments.output}")
    print("\n".join(result_lines(result.best, names, result.options.epochs)))
    if result.baseline:
        print(comparison_line(result.best, result.baseline))
    if result.skipped:
        print(f"  {counted(len(result.skipped), 'image')} could not be used")
    if arguments.json:
        before = dict(zip(("before_training", "fp32"), map(validation_values, result.baseline or ())))
        write_json(arguments.json, {**result_values(result.best, names), **before, "record": result.record})


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ignore(text: str) -> None:
    del text


if __name__ == "__main__":  # torchrun -m googlenet_deploy.cli.train
    from googlenet_deploy.cli.main import main

    sys.exit(main(["train", *sys.argv[1:]]))
