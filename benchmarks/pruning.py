"""Channel pruning to half of the multiply-adds, beside the unpruned network and a plain narrower one.

digits: scikit-learn's 1797 digits, of which 360 are held out and decide nothing. Per seed a network is trained from
scratch, pruned with `train --prune 0.5`, and a narrower one (`--width`, no more multiply-adds than the pruned one) is
trained from scratch as long as both together. All three are measured on the same held-out images.

finetune: the three classes of `finetune.py`, learnt by the BVLC net with its trunk frozen, pruned and measured on the
images that decide nothing; per seed another split.

Of the first seed of each part the dense and the pruned network are exported, quantised to INT8 and timed in turn on one
thread of this CPU; latency and energy of their FP16 engines on the Nano are predicted.

    python benchmarks/pruning.py [--rounds 8] [--parts digits,finetune] [--finetune-seeds 3] [--record]

A part that is measured alone has a record of its own: pruning_digits, pruning_finetune.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commands import Cost, evaluate
from finetune import Listings, split
from harness import IMAGES, ROOT, WEIGHTS, interleaved, options, record, say, table

sys.path.insert(0, str(ROOT / "examples"))
from digits_demo import Paths, write_digits

SHARE, TARGET = "0.5", "nano"
DENSE_EPOCHS, PRUNING_EPOCHS, FINETUNE_EPOCHS = 12, 12, 8
SHAPE = ("--width", "0.25", "--input-size", "48")
NARROW_WIDTH = "0.175"  # 47 % of the multiply-adds of width 0.25
DIGITS_POINTS, FINETUNE_POINTS, SPEED = 0.3, 1.5, 1.5
TIMED_ROUNDS, RUNS = 9, 20


def here(*arguments: str | Path) -> Cost:
    """Runs `googlenet-deploy` in this process, which saves each command the imports; shows the command line.

    Raises:
        SystemExit: The command failed.
    """
    from googlenet_deploy.cli.main import main as command_line

    words = [str(argument) for argument in arguments]
    say(f"$ googlenet-deploy {shlex.join(words)}")
    start, before = time.perf_counter(), os.times()
    with contextlib.redirect_stdout(io.StringIO()):
        status = command_line(words)
    if status:
        raise SystemExit(f"{words[0]} failed with exit status {status}")
    after = os.times()
    return Cost(time.perf_counter() - start, after.user + after.system - before.user - before.system)


def pruning(weights: Path, epochs: int) -> tuple[str | Path, ...]:
    """The options that prune a trained network."""
    plan = ("--prune", SHARE, "--prune-steps", "4", "--epochs", str(epochs), "--auxiliary-weight", "0")
    return ("--weights", weights, *plan)


def accuracy(weights: Path, folder: Path, labels: Path | None = None) -> float:
    """Top-1 in percent of a checkpoint on labelled images, prepared as on the device, in PyTorch."""
    import torch

    from googlenet_deploy.device.images.decode import load_image
    from googlenet_deploy.device.preprocess import preprocess
    from googlenet_deploy.evaluation.dataset import ClassIndex, read_labelled_images
    from googlenet_deploy.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(weights)
    images = read_labelled_images(folder, labels, ClassIndex(checkpoint.class_names))
    right = 0
    for start in range(0, len(images.sources), 32):
        batch = [load_image(source.name) for source in images.sources[start : start + 32]]
        inputs = torch.from_numpy(np.stack([preprocess(image, checkpoint.preprocessing) for image in batch]))
        with torch.inference_mode():
            answers = checkpoint.model(inputs).argmax(dim=1).tolist()
        right += sum(a == b for a, b in zip(answers, images.labels[start : start + 32], strict=True))
    return 100.0 * right / len(images.sources)


def multiply_adds(weights: Path) -> float:
    """Multiply-adds per image, in millions."""
    from googlenet_deploy.model.checkpoint import load_checkpoint
    from googlenet_deploy.model.summary import summarize

    checkpoint = load_checkpoint(weights)
    return summarize(checkpoint.model, checkpoint.preprocessing.crop[0]).multiply_adds / 1e6


def digits_round(paths: Paths, seed: int) -> dict[str, float]:
    """Trains the three networks with one seed; accuracy in percent on the held-out digits."""
    folder = paths.folder / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    dense, pruned, narrow = (folder / f"{name}.safetensors" for name in ("dense", "pruned", "narrow"))
    learn = ("train", "--data", paths.train, "--seed", str(seed), "--augmentation", "light", "--quiet")
    costs = [
        here(*learn, "--output", dense, *SHAPE, "--epochs", str(DENSE_EPOCHS)),
        here(*learn, "--output", pruned, *pruning(dense, PRUNING_EPOCHS), "--prune-round", "8"),
        here(
            *(*learn, "--output", narrow, "--width", NARROW_WIDTH, *SHAPE[2:]),
            *("--epochs", str(DENSE_EPOCHS + PRUNING_EPOCHS)),
        ),
    ]
    return {
        "seconds": sum(cost.seconds for cost in costs),
        "core_seconds": sum(cost.core_seconds for cost in costs),
        **{path.stem: accuracy(path, paths.held_out) for path in (dense, pruned, narrow)},
        **{f"{path.stem}_macs": multiply_adds(path) for path in (dense, pruned, narrow)},
    }


def finetune_round(folder: Path, count: int, seed: int) -> tuple[dict[str, float], Listings]:
    """Trains and prunes for one split; accuracy in percent on the test images, which influence no choice."""
    listings = split(folder, count, seed)
    dense, pruned = (folder / f"{name}.safetensors" for name in ("dense", "pruned"))
    learn = ("train", "--data", listings.learn, "--images", IMAGES, "--seed", str(seed), "--quiet")
    alone = ("--freeze", "trunk", "--augmentation", "none", "--label-smoothing", "0", "--epochs", "30")
    costs = [
        here(*learn, "--output", dense, "--weights", WEIGHTS, *alone),
        here(*learn, "--output", pruned, *pruning(dense, FINETUNE_EPOCHS), "--min-area", "0.5"),
    ]
    found = {
        "seconds": sum(cost.seconds for cost in costs),
        "core_seconds": sum(cost.core_seconds for cost in costs),
        **{path.stem: accuracy(path, IMAGES, listings.test) for path in (dense, pruned)},
        **{f"{path.stem}_macs": multiply_adds(path) for path in (dense, pruned)},
    }
    return found, listings


def on_devices(folder: Path, images: tuple[str | Path, ...], calibration: Path) -> dict[str, Any]:
    """Exports the dense and the pruned network, quantises and times them in turn, and predicts them for the target."""
    from googlenet_deploy.analysis.prediction.predict import predict
    from googlenet_deploy.device.targets.target import load_target

    found: dict[str, Any] = {}
    models = {}
    for name in ("dense", "pruned"):
        model, int8 = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        models[name] = model
        here("export", "--weights", folder / f"{name}.safetensors", "--output", model, "--quiet")
        here("quantize", model, "--images", calibration, "--output", int8, "--quiet")
        predicted = predict(model, load_target(TARGET), "fp16").best
        found[name] = {
            "fp32": evaluate(model, *images),
            "int8": evaluate(int8, *images, "--reference", model, "--layers", "0"),
            TARGET: {"ms": predicted.latency.value, "mj": predicted.energy.value, "mode": predicted.mode.name},
        }
    timings = interleaved({name: _runs(model) for name, model in models.items()}, TIMED_ROUNDS)
    found["speed"] = timings["pruned"].ratio_to(timings["dense"])
    found["ms"] = {name: 1e3 * timing.median / RUNS for name, timing in timings.items()}
    return found


def _runs(model: Path) -> Callable[[], object]:
    """A few runs of a model on one image and one thread."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [1 if isinstance(size, str) or size is None else size for size in given.shape]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return lambda: [session.run(None, {given.name: image}) for _ in range(RUNS)]


def report(name: str, rounds: list[dict[str, float]], devices: dict[str, Any]) -> None:
    """Prints a part's tables."""
    columns = list(rounds[0])
    rows = [(str(seed), *(f"{row[column]:.2f}" for column in columns)) for seed, row in enumerate(rounds)]
    means = [f"{statistics.mean(row[column] for row in rounds):.2f}" for column in columns]
    table((name, *columns), [*rows, ("mean", *means)])
    lines = [
        (
            which,
            f"{devices['ms'][which]:.3f}",
            f"{devices[which]['fp32']['top1']:.2f}",
            f"{devices[which]['int8']['top1']:.2f}",
            f"{devices[which]['int8']['agreement']:.2f}",
            f"{devices[which][TARGET]['ms']:.2f}",
            f"{devices[which][TARGET]['mj']:.2f}",
        )
        for which in ("dense", "pruned")
    ]
    table(("seed 0", "CPU ms", "FP32 top-1", "INT8 top-1", "INT8 agrees", f"{TARGET} ms", f"{TARGET} mJ"), lines)
    say(f"{name}: the pruned network is {devices['speed']:.2f} times as fast on one thread of this CPU")
    say(f"{name}: {TARGET} ms and mJ are predictions for FP16 engines of one image in the fastest power mode")


def predicted_gain(devices: dict[str, Any], key: str) -> float:
    """The predicted reduction factor of the pruned network on the target."""
    return float(devices["dense"][TARGET][key] / devices["pruned"][TARGET][key])


def loss(rounds: list[dict[str, float]], other: str = "pruned") -> float:
    """Loss in points compared with the dense network: the mean over the seeds of the paired differences."""
    return statistics.mean(row["dense"] - row[other] for row in rounds)


def main() -> int:
    parser = options(__doc__ or "", rounds=8)
    parser.add_argument("--parts", default="digits,finetune", help="digits, finetune or both (default both)")
    parser.add_argument("--finetune-seeds", type=int, default=3, metavar="N", help="splits (default 3)")
    parser.add_argument("--images", type=int, default=500, help="of the sample (default 500)")
    arguments = parser.parse_args()
    base = ROOT / "build" / "pruning"
    figures: dict[str, Any] = {}
    holds: dict[str, bool] = {}
    if "digits" in arguments.parts:
        paths = Paths(base / "digits")
        write_digits(paths)
        rounds = [digits_round(paths, seed) for seed in range(arguments.rounds)]
        devices = on_devices(paths.folder / "0", (paths.held_out,), paths.train)
        report("digits", rounds, devices)
        figures["digits"] = {"rounds": rounds, "devices": devices}
        holds[f"digits within {DIGITS_POINTS:g} points (lost {loss(rounds):.2f})"] = loss(rounds) <= DIGITS_POINTS
        holds[f"better than the narrower network (which lost {loss(rounds, 'narrow'):.2f})"] = loss(rounds) <= loss(
            rounds, "narrow"
        )
    if "finetune" in arguments.parts:
        seeds = range(arguments.finetune_seeds)
        results = [finetune_round(base / "finetune" / str(seed), arguments.images, seed) for seed in seeds]
        rounds, first = [found for found, _ in results], results[0][1]
        devices = on_devices(base / "finetune" / "0", (IMAGES, "--labels", first.test), first.calibrate)
        report("finetune", rounds, devices)
        figures["finetune"] = {"rounds": rounds, "devices": devices}
        holds[f"three classes within {FINETUNE_POINTS:g} points (lost {loss(rounds):.2f})"] = (
            loss(rounds) <= FINETUNE_POINTS
        )
        holds[f"at least {SPEED:g} times as fast on this CPU at 224x224"] = devices["speed"] >= SPEED
        gains = [predicted_gain(devices, key) for key in ("ms", "mj")]
        holds[f"{TARGET}: predicted latency / {gains[0]:.2f}, energy / {gains[1]:.2f}"] = min(gains) > 1.0
        lost = devices["pruned"]["fp32"]["top1"] - devices["pruned"]["int8"]["top1"]
        holds[f"INT8 of the pruned network within {FINETUNE_POINTS:g} points of its FP32 (lost {lost:.2f})"] = (
            lost <= FINETUNE_POINTS
        )
    for what, kept in holds.items():
        say(f"{what}: {'yes' if kept else 'NO'}")
    if arguments.record:
        parts = arguments.parts.split(",")
        record("pruning" if len(parts) > 1 else f"pruning_{parts[0]}", {**figures, "holds": holds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
