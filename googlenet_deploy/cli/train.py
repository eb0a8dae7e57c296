"""Train a classifier from a folder of images.

The folder holds train/CLASS/image and val/CLASS/image, or CLASS/image, of which a share is held out. The checkpoint
is replaced after each epoch that is at least as accurate on the validation images as all before, so an interrupted
run leaves the best so far. It carries class names, preprocessing and a record of the run; `export` makes the ONNX
model of it.

Examples:
  googlenet-deploy train --data photos/ --output model.safetensors
  googlenet-deploy train --data digits/ --output digits.safetensors --width 0.25 --input-size 64 --augmentation light
  googlenet-deploy train --data photos/ --output model.safetensors --weights bvlc --freeze trunk --epochs 10
  googlenet-deploy train --data photos/ --output model.safetensors --weights torchvision --freeze inception3b --lr 0.01
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, List

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.run import TrainingResult

SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of images, by class")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the checkpoint goes (.safetensors)")
    parser.add_argument("--log", metavar="FILE", help="write one line of JSON per epoch")
    parser.add_argument("--quiet", action="store_true", help="print only the result")
    _add_network_arguments(parser.add_argument_group("network"))
    _add_optimisation_arguments(parser.add_argument_group("optimisation"))
    _add_data_arguments(parser.add_argument_group("images"))
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, or auto: a GPU where there is one (default)"
    )
    machine.add_argument("--workers", type=int, metavar="N", help="threads that read images (default: one per core)")
    machine.add_argument(
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
        "--weights", metavar="W", help="fine-tune a checkpoint, or bvlc or torchvision; its classifier is replaced"
    )
    group.add_argument(
        "--freeze",
        default="none",
        metavar="M",
        help="keep weights as they are: trunk (all but the classifier), or all up to a module such as inception4a",
    )
    group.add_argument("--dropout", type=float, metavar="P", help="ahead of the classifier (default: the net's own)")


def _add_optimisation_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=30, metavar="N", help="default: %(default)s")
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="default: %(default)s")
    group.add_argument(
        "--lr",
        type=float,
        metavar="X",
        help="highest learning rate (default: bvlc 0.01, torchvision 0.05; a tenth when fine-tuning)",
    )
    group.add_argument(
        "--schedule", default="cosine", metavar="S", help="cosine (default), or step: 4 %% less every 8 epochs"
    )
    group.add_argument("--warmup", type=float, default=1.0, metavar="EPOCHS", help="default: %(default)s")
    group.add_argument("--momentum", type=float, default=0.9, metavar="X", help="default: %(default)s")
    group.add_argument("--weight-decay", type=float, default=2e-4, metavar="X", help="default: %(default)s")
    group.add_argument("--label-smoothing", type=float, default=0.1, metavar="X", help="default: %(default)s")
    group.add_argument(
        "--auxiliary-weight", type=float, default=0.3, metavar="X", help="of each auxiliary loss (default: %(default)s)"
    )
    group.add_argument(
        "--averaging", type=float, metavar="D", help="decay of the weights' average; 0: none (default: by run length)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: %(default)s)")


def _add_data_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--augmentation",
        default="natural",
        metavar="A",
        help="natural: random crops, mirroring, colour (default); light: small shifts and rotations; none",
    )
    group.add_argument(
        "--min-area", type=float, default=0.08, metavar="X", help="smallest share that natural crops (default: 0.08)"
    )
    group.add_argument(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="X",
        help="held out where there is no val/ (default: 0.1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if not str(arguments.output).endswith(".safetensors"):
        raise UsageError(f"--output {arguments.output}: a checkpoint's name ends in .safetensors")
    options = _options(arguments)
    from googlenet_deploy.training.run import train

    result = train(
        arguments.data,
        arguments.output,
        options,
        log=arguments.log,
        say=_ignore if arguments.quiet else _note,
        quiet=arguments.quiet,
    )
    print("\n".join(_result_lines(result, arguments.output)))
    return 0


def _options(arguments: argparse.Namespace) -> TrainingOptions:
    from googlenet_deploy.training.options import TrainingOptions

    return TrainingOptions(
        architecture=arguments.architecture,
        width=arguments.width,
        input_size=arguments.input_size,
        resize=arguments.resize,
        weights=arguments.weights,
        freeze=arguments.freeze,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        schedule=arguments.schedule,
        warmup_epochs=arguments.warmup,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        label_smoothing=arguments.label_smoothing,
        auxiliary_weight=arguments.auxiliary_weight,
        dropout=arguments.dropout,
        averaging=arguments.averaging,
        augmentation=arguments.augmentation,
        min_area=arguments.min_area,
        validation_share=arguments.validation_share,
        seed=arguments.seed,
        device=arguments.device,
        workers=arguments.workers,
        cache_megabytes=arguments.cache,
    )


def _result_lines(result: TrainingResult, output: str) -> List[str]:
    validation = result.best.validation
    lines = [
        f"{result.data.root} -> {output}",
        f"  validation accuracy {validation.accuracy}, epoch {result.best.epoch} of {result.network.options.epochs}",
    ]
    scores = sorted(zip(validation.class_accuracy(), result.data.class_names), key=lambda pair: pair[0].percent)
    worst = [f"{name} {score.percent:.1f} %" for score, name in scores[:SHOWN] if score.percent < 100.0]
    if worst:
        lines.append(f"  least accurate classes: {', '.join(worst)}")
    if result.skipped:
        lines.append(f"  {len(result.skipped)} images could not be used")
    return lines


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ignore(text: str) -> None:
    del text
