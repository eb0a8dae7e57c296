"""The whole way on a machine that has nothing but the installed packages.

Writes scikit-learn's handwritten digits (real scans of 8 by 8 pixels) as a folder of images per class, then runs the
commands that a user would type: train a small GoogLeNet, export it to a verified ONNX model, classify digits that
training never saw, measure the accuracy on all of them, build an engine, quantise to INT8, and measure what that
changes; then the whole way to a Jetson in one command, with the bundle for the device and the report. Each command is
shown as it runs, with its time.

    python examples/digits_demo.py --output build/demo

Exit status: that of the first command that fails; 3 where a gate does not hold, such as that on the accuracy.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 360  # of 1797
RULE = "-" * 100


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Attributes:
        title: Its heading.
        why: What it does, in a sentence or two.
        arguments: The arguments of `googlenet-deploy`.
        needs: A package that is not available on every machine; without it the step is left out.
    """

    title: str
    why: str
    arguments: tuple[str, ...]
    needs: str = ""


@dataclass(frozen=True)
class Paths:
    """The demo's files and folders."""

    folder: Path

    @property
    def train(self) -> Path:
        """The training digits."""
        return self.folder / "digits" / "train"

    @property
    def held_out(self) -> Path:
        """The held-out digits, which training never sees."""
        return self.folder / "digits" / "held-out"

    def file(self, name: str) -> str:
        """The path of a file that a command writes."""
        return str(self.folder / name)


def steps(paths: Paths, epochs: int, required: float) -> list[Step]:
    """The demo's commands in their order."""
    checkpoint, model = paths.file("digits.safetensors"), paths.file("digits.onnx")
    some = [str(next(iter(sorted((paths.held_out / digit).iterdir())))) for digit in ("0", "3", "8")]
    return [
        Step(
            "Train",
            "A batch-normalised GoogLeNet of a quarter of the width, from scratch. A tenth of the training digits is"
            " set aside to choose the best epoch.",
            (
                *("train", "--data", str(paths.train), "--output", checkpoint, "--log", paths.file("training.jsonl")),
                *("--width", "0.25", "--input-size", "64", "--augmentation", "light", "--epochs", str(epochs)),
            ),
        ),
        Step(
            "Export",
            "BatchNorm is folded, layers keep their names, the result is compared with PyTorch on real digits.",
            (
                *("export", "--weights", checkpoint, "--output", model),
                *("--images", str(paths.held_out), "--json", paths.file("export.json")),
            ),
        ),
        Step(
            "Classify",
            "Three held-out digits. The model carries its class names and how its images are prepared.",
            ("infer", model, *some, "--top-k", "3"),
        ),
        Step(
            "Evaluate",
            f"All {HELD_OUT} held-out digits, with a gate: the command fails below {required:g} %.",
            (
                *("evaluate", model, "--images", str(paths.held_out)),
                *("--require", f"top1={required:g}", "--json", paths.file("evaluation.json")),
            ),
        ),
        *engine_steps(paths, model),
        *int8_steps(paths, model),
        deploy_step(paths, checkpoint),
    ]


def engine_steps(paths: Paths, model: str) -> list[Step]:
    """From the model to an engine for three generations of GPUs; no GPU is needed."""
    half = paths.file("digits.fp16.onnx")
    return [
        Step(
            "Export in FP16",
            "TensorRT-RTX computes in the types that the model states. The largest activations are measured on real"
            " digits, and a layer that could overflow would stay in FP32.",
            ("export", "--onnx", model, "--fp16", "--output", half, "--images", str(paths.held_out)),
        ),
        Step(
            "Build",
            "A TensorRT-RTX engine, ahead of time and without a GPU, with a gate: every convolution computes in FP16.",
            (
                *("build", half, "--backend", "tensorrt-rtx", "--compute-capability", "8.6,8.9,12.0"),
                *("--batch", "1,8,32", "--require", "fp16=1", "--output", paths.file("digits.engine")),
            ),
            needs="tensorrt_rtx",
        ),
    ]


def int8_steps(paths: Paths, model: str) -> list[Step]:
    """Quantises to INT8 and measures the effect: both models on the same images, then side by side."""
    quantized, table = paths.file("digits.int8.onnx"), paths.file("calibration.json")
    files = {model: paths.file("benchmark.json"), quantized: paths.file("benchmark.int8.json")}
    measure = [
        Step(
            f"Benchmark {name}",
            "Every scope in three rounds, once the latency has settled; memory; power where there is a meter.",
            (
                *("benchmark", path, "--images", str(paths.held_out), "--batch", "1", "--json", files[path]),
                *("--rounds", "3", "--seconds", "1", "--warm-up", "5"),
            ),
        )
        for name, path in (("FP32", model), ("INT8", quantized))
    ]
    return [
        Step(
            "Calibrate",
            "The range of every tensor on 256 training digits, by all methods in one pass; and the same as a"
            " calibration cache for the TensorRT of JetPack 5.1.",
            (
                *("calibrate", model, "--images", str(paths.train), "--output", table),
                *("--cache", paths.file("digits.cache"), "--tensorrt-version", "8.5.2"),
            ),
        ),
        Step(
            "Quantise",
            "To INT8 with Q/DQ pairs where TensorRT requires them, compared with FP32 on digits that calibration did"
            " not see, with a gate: the INT8 model answers as the FP32 model does.",
            (
                *("quantize", model, "--table", table, "--output", quantized),
                *("--check-from", str(paths.train), "--require", "agreement=98"),
            ),
        ),
        Step(
            "Evaluate INT8",
            "Beside FP32, image by image and layer by layer, and what is likely wrong where it is.",
            (
                *("evaluate", quantized, "--reference", model, "--images", str(paths.held_out)),
                *("--json", paths.file("evaluation.int8.json")),
            ),
        ),
        *measure,
        Step(
            "Compare",
            "FP32 (A) and INT8 (B) side by side; an interval that contains 1 means no difference.",
            ("benchmark", "--compare", files[model], files[quantized]),
        ),
    ]


def deploy_step(paths: Paths, checkpoint: str) -> Step:
    """Everything above and more in one command, for a Jetson."""
    return Step(
        "Deploy",
        "The whole way for a Jetson Orin Nano in one command: export, calibration, INT8, every precision compared on"
        " digits that calibration did not see, bounds for the module, a bundle that is tested, and the report.",
        (
            *("deploy", "--weights", checkpoint, "--images", str(paths.held_out), "--target", "orin-nano"),
            *("--precision", "int8", "--output", paths.file("orin-nano"), "--require", "loss=3"),
        ),
    )


RESULTS = {
    "digits/train": "digits as PNG files, a folder per class: to learn from",
    "digits/held-out": "the digits that training never saw",
    "digits.safetensors": "checkpoint: weights, class names, preprocessing, training record",
    "training.jsonl": "loss, accuracy and speed of each epoch",
    "digits.onnx": "the model to deploy",
    "export.json": "what the export did and how it was verified",
    "evaluation.json": "accuracy on the held-out digits, with its interval",
    "digits.fp16.onnx": "the same model in FP16",
    "calibration.json": "the range of every tensor; digits.cache is the same for TensorRT's implicit INT8",
    "digits.int8.onnx": "the same model in INT8, with Q/DQ pairs",
    "evaluation.int8.json": "INT8 beside FP32: accuracy, agreement, layers, ranges, diagnosis",
    "benchmark.json": "latency, throughput and memory of the FP32 model; benchmark.int8.json of the INT8 model",
    "orin-nano/bundle.zip": "for the Jetson: models, calibration, self-test, scripts; README.txt in it tells how",
    "orin-nano/report.html": "what was found: accuracy, bounds, layers, activations, images that differ",
    "digits.engine": "a TensorRT-RTX engine, and digits.engine.json: what it was made from and computes in",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status of the first command that fails, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/demo"), metavar="DIR", help="default: build/demo")
    parser.add_argument("--epochs", type=int, default=15, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--require", type=float, default=97.0, metavar="PERCENT", help="accuracy to hold (default: %(default)g)"
    )
    options = parser.parse_args(argv)
    start = time.perf_counter()
    paths = Paths(options.output)
    heading("Digits", "Handwritten digits from scikit-learn, written as images; a fifth of each class is held out.")
    write_digits(paths)
    for step in steps(paths, options.epochs, options.require):
        if step.needs and find_spec(step.needs) is None:
            leave_out(step)
            continue
        status = run(step)
        if status:
            print(f"\nThe demo stopped: '{step.arguments[0]}' ended with exit status {status}.", flush=True)
            return status
    conclude(paths, time.perf_counter() - start)
    return 0


def write_digits(paths: Paths) -> None:
    """Writes the 1797 digits as 8-bit grey PNG files into train/ and held-out/, a folder per class."""
    shutil.rmtree(paths.folder / "digits", ignore_errors=True)
    digits = load_digits()
    indices = np.arange(len(digits.target))
    train, held_out = train_test_split(indices, test_size=HELD_OUT, stratify=digits.target, random_state=0)
    pixels = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)  # stored as 0 to 16
    for folder, part in ((paths.train, train), (paths.held_out, held_out)):
        for index in sorted(part.tolist()):
            class_folder = folder / str(digits.target[index])
            class_folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(class_folder / f"{index:04d}.png")
    print(f"{len(train)} images in {paths.train}, {len(held_out)} in {paths.held_out}", flush=True)


def run(step: Step) -> int:
    """Shows a step's command line, runs it with its output passed through, and prints its time; returns its status."""
    heading(step.title, step.why)
    print(f"$ {shlex.join(('googlenet-deploy', *step.arguments))}\n", flush=True)
    start = time.perf_counter()
    # The package of this interpreter, whatever is on the PATH; notes and results go to one stream.
    command = (sys.executable, "-m", "googlenet_deploy", *step.arguments)
    status = subprocess.run(command, stderr=subprocess.STDOUT, check=False).returncode  # noqa: S603 - no shell
    print(f"\n({time.perf_counter() - start:.1f} s)", flush=True)
    return status


def leave_out(step: Step) -> None:
    """Prints that a step is left out."""
    heading(step.title, step.why)
    machine = f"{platform.system()} on {platform.machine()}"
    print(
        f"Left out: the package {step.needs} is not installed; NVIDIA makes none for every machine (here: {machine})."
    )


def heading(title: str, why: str) -> None:
    """Prints a step's heading."""
    print(f"\n{RULE}\n{title}\n{textwrap.fill(why, len(RULE))}\n{RULE}", flush=True)


def conclude(paths: Paths, seconds: float) -> None:
    """Prints where the files are."""
    heading("Done", f"{seconds:.0f} s in all.")
    for name, what in RESULTS.items():
        if (paths.folder / name).exists():
            print(f"  {paths.folder / name!s:36} {what}")
    print(f"\nTry your own: googlenet-deploy infer {paths.file('digits.onnx')} IMAGE", flush=True)


if __name__ == "__main__":
    sys.exit(main())
