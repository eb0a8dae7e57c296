"""Train a classifier from images.

--data is a folder that holds train/CLASS/image and val/CLASS/image, or CLASS/image, of which a share is held out; a
CSV file of filename,label or filename,label,split; or WebDataset shards of KEY.jpg and KEY.cls, for data sets larger
than a disk (files, https://..., or pipe:COMMAND, which is run).

The output is replaced after each epoch that is at least as accurate on the validation images as all before; beside it
lie the last epoch's weights (model.last.safetensors) and, until the run is complete, its state
(model.state.safetensors). SIGTERM and Ctrl-C save the state; the same command with --resume goes on from it.
Checkpoints carry class names, preprocessing and a record of the run; `export` makes the ONNX model of them.

With --qat the training is quantisation-aware: it starts from an FP32 model that `export` wrote and the table that
`calibrate` made for it, and the output is the INT8 model that `quantize` would write, with learned weights and scales.

Examples:
  googlenet-deploy train --data photos/ --output model.safetensors
  googlenet-deploy train --data digits/ --output digits.safetensors --width 0.25 --input-size 64 --augmentation light
  googlenet-deploy train --data photos/ --output model.safetensors --weights bvlc --freeze trunk --epochs 10
  googlenet-deploy train --data labels.csv --images photos/ --output model.safetensors --weights torchvision --lr 0.01
  googlenet-deploy train --data photos/ --output sparse.safetensors --weights model.safetensors --sparsity 2:4
  googlenet-deploy train --data photos/ --qat model.onnx --table table.json --output model.int8.onnx --epochs 3
  googlenet-deploy train --data 'train-{000..146}.tar' --validation 'val-{00..09}.tar' --output model.safetensors
  torchrun --nproc-per-node 4 -m googlenet_deploy train --data photos/ --output model.safetensors --precision bf16
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict

from googlenet_deploy.cli.quantize import add_placement_options, placement_options
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.resume_state import Outputs
    from googlenet_deploy.training.run import TrainingResult
    from googlenet_deploy.training.setup import DataPlaces, MakeTask

# Options whose name on the command line is another than in `TrainingOptions`.
RENAMED = {"lr": "learning_rate", "warmup": "warmup_epochs", "cache": "cache_megabytes"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--data", required=True, metavar="PLACE", help="folder of images by class, CSV file, or shards")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where the checkpoint goes (.safetensors), or the INT8 model"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state of an unfinished run, if any")
    _add_report_arguments(parser.add_argument_group("report"))
    _add_data_arguments(parser.add_argument_group("images"))
    _add_network_arguments(parser.add_argument_group("network"))
    _add_optimisation_arguments(parser.add_argument_group("optimisation"))
    _add_quantization_arguments(parser.add_argument_group("quantisation-aware training"))
    _add_machine_arguments(parser.add_argument_group("machine"))


def _add_report_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--log", metavar="FILE", help="follow the run: a row per epoch (.csv), or lines of JSON")
    group.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard")
    group.add_argument("--json", metavar="FILE", help="write the result: accuracy by class, confusion matrix")
    group.add_argument("--quiet", action="store_true", help="print only the result")


def _add_data_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--validation", metavar="PLACE", help="images to measure with, of the same kind as --data")
    group.add_argument("--images", metavar="DIR", help="folder of the files that a CSV lists (default: its own)")
    group.add_argument("--class-names", metavar="FILE", help="of shards, a name per line (default: their classes.txt)")
    group.add_argument(
        "--epoch-images",
        type=int,
        metavar="N",
        help="images per epoch of shards (default: all, counted)",
    )
    group.add_argument(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="X",
        help="held out where there are no validation images (default: 0.1)",
    )
    group.add_argument(
        "--augmentation",
        default="natural",
        metavar="A",
        help="natural: random crops, mirroring, colour (default); paper: more of it, as the paper has it; "
        "light: small shifts and rotations; none",
    )
    group.add_argument(
        "--min-area", type=float, default=0.08, metavar="X", help="smallest share that is cropped (default: 0.08)"
    )
    group.add_argument(
        "--mixup", type=float, default=0.0, metavar="ALPHA", help="mix pairs of images, such as 0.2 (default: 0, none)"
    )
    group.add_argument(
        "--cache",
        type=int,
        default=1024,
        metavar="MB",
        help="memory for decoded images; what exceeds it is decoded anew each epoch (default: %(default)s)",
    )


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--architecture", metavar="A", help="bvlc or torchvision (default: torchvision)")
    group.add_argument("--width", type=float, metavar="X", help="multiply every channel count (default: 1)")
    group.add_argument("--input-size", type=int, metavar="N", help="side of the input in pixels (default: 224)")
    group.add_argument(
        "--resize", type=int, metavar="N", help="short side ahead of the crop (default: by augmentation)"
    )
    group.add_argument(
        "--weights",
        metavar="W",
        help="fine-tune a checkpoint (.safetensors, .caffemodel, .pth), or bvlc or torchvision; "
        "its classifier is replaced where the classes are others",
    )
    group.add_argument(
        "--freeze",
        default="none",
        metavar="M",
        help="keep weights as they are: trunk (all but the classifier), or all up to a module such as inception4a",
    )
    group.add_argument("--dropout", type=float, metavar="P", help="ahead of the classifier (default: the net's own)")
    group.add_argument("--auxiliary-dropout", type=float, metavar="P", help="in the auxiliary ones (default: 0.7)")


def _add_optimisation_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=30, metavar="N", help="default: %(default)s")
    group.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="over all processes (default: %(default)s)"
    )
    group.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="parts of a batch, one after the other (default: 1)"
    )
    group.add_argument(
        "--lr",
        type=float,
        metavar="X",
        help="highest learning rate (default: bvlc 0.01, torchvision 0.05; a tenth when fine-tuning more than a new "
        "classifier)",
    )
    group.add_argument(
        "--schedule", default="cosine", metavar="S", help="cosine (default), or step: 4 %% less every 8 epochs"
    )
    group.add_argument("--warmup", type=float, default=1.0, metavar="EPOCHS", help="default: %(default)s")
    group.add_argument("--momentum", type=float, default=0.9, metavar="X", help="default: %(default)s")
    group.add_argument("--weight-decay", type=float, default=2e-4, metavar="X", help="default: %(default)s")
    group.add_argument("--clip", type=float, metavar="X", help="largest norm of the gradients (default: any)")
    group.add_argument("--label-smoothing", type=float, default=0.1, metavar="X", help="default: %(default)s")
    group.add_argument(
        "--auxiliary-weight", type=float, default=0.3, metavar="X", help="of each auxiliary loss (default: %(default)s)"
    )
    group.add_argument(
        "--averaging", type=float, metavar="D", help="decay of the weights' average; 0: none (default: by run length)"
    )
    group.add_argument(
        "--sparsity",
        metavar="P",
        help="2:4: prune two of every four weights, for sparse tensor cores, and train the rest; or none "
        "(default: keep the pattern where the weights have it)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: %(default)s)")


def _add_quantization_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--qat", metavar="MODEL", help="start from this FP32 ONNX model; the output is INT8 (.onnx)")
    group.add_argument("--table", metavar="FILE", help="its calibration table")
    group.add_argument(
        "--method", metavar="M", help="thresholds of the table to start from (default: the table's own choice)"
    )
    group.add_argument("--scales", default="learned", metavar="S", help="learned (default), or fixed: the table's")
    group.add_argument(
        "--distillation",
        type=float,
        default=0.5,
        metavar="X",
        help="0: learn from labels; 1: from the FP32 model's scores alone; between: from both (default: 0.5)",
    )
    group.add_argument(
        "--refine",
        metavar="LIST",
        help="refinements that the start gets ahead of training, on training images, as `quantize --refine` has them; "
        "none: the table alone (default: best)",
    )
    add_placement_options(group)


def _add_machine_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, or auto: a GPU where there is one (default)"
    )
    group.add_argument(
        "--precision", default="fp32", metavar="P", help="fp32 (default), or bf16 or fp16 for mixed precision"
    )
    group.add_argument(
        "--channels-first",
        dest="channels_last",
        action="store_false",
        help="keep images in NCHW order; NHWC, the default, is faster on most machines",
    )
    group.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    group.add_argument("--workers", type=int, metavar="N", help="how many read images (default: one per core)")
    group.add_argument(
        "--worker-type",
        default="auto",
        metavar="T",
        help="threads, processes, or auto: processes beside a GPU and threads elsewhere (default)",
    )
    group.add_argument(
        "--save-every", type=int, default=1000, metavar="STEPS", help="save the state (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    _check_names(arguments)
    options, outputs = _options(arguments), _outputs(arguments)
    from googlenet_deploy.training.run import is_complete, train
    from googlenet_deploy.training.setup import classifier_task

    if arguments.resume and is_complete(outputs):
        print(f"{outputs.best}: this run is complete; leave --resume out to begin a new one")
        return 0
    result = train(
        _places(arguments),
        outputs,
        options,
        make_task=_qat_task(arguments) if arguments.qat else classifier_task,
        resume=arguments.resume,
        say=_ignore if arguments.quiet else _note,
        quiet=arguments.quiet,
    )
    if result.is_first:
        _report(result, arguments)
    return 0


def _check_names(arguments: argparse.Namespace) -> None:
    if arguments.qat and not arguments.table:
        raise UsageError("--qat needs --table: `googlenet-deploy calibrate` makes it")
    for option in ("table", "refine"):
        if getattr(arguments, option) and not arguments.qat:
            raise UsageError(f"--{option} belongs to --qat")
    suffix, what = (".onnx", "an INT8 model") if arguments.qat else (".safetensors", "a checkpoint")
    if not str(arguments.output).endswith(suffix):
        raise UsageError(f"--output {arguments.output}: {what}'s name ends in {suffix}")


def _qat_task(arguments: argparse.Namespace) -> MakeTask:
    from googlenet_deploy.quantization.quantize import QuantizationOptions
    from googlenet_deploy.training.qat.task import qat_task

    quantization = QuantizationOptions(placement=placement_options(arguments), method=arguments.method)
    return qat_task(arguments.qat, arguments.table, quantization, quiet=arguments.quiet)


def _options(arguments: argparse.Namespace) -> TrainingOptions:
    from dataclasses import fields

    from googlenet_deploy.training.options import QatOptions, TrainingOptions

    qat = QatOptions(arguments.scales, arguments.distillation, arguments.refine) if arguments.qat else None
    given: Dict[str, Any] = {RENAMED.get(name, name): value for name, value in vars(arguments).items()}
    given["qat"] = qat
    known = {field.name for field in fields(TrainingOptions)}
    return TrainingOptions(**{name: value for name, value in given.items() if name in known})


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
        print(f"  {len(result.skipped)} images could not be used")
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
