"""Classify images with a model.

PATH is a file, a folder (searched with its subfolders), a pattern such as 'photos/*.jpg', or - for standard input
(an image, or one path per line). Images that cannot be used are named, counted and left out.

Examples:
  googlenet-infer model.onnx photo.jpg
  googlenet-infer model.onnx photos/ --top-k 1 --csv answers.csv
  googlenet-infer model.onnx 'shots/*.png' --json - --batch 16
  googlenet-infer other.onnx photo.jpg --preprocessing imagenet --class-names imagenet
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    add_runner_options,
    check_class_count,
    class_names,
    positive,
    report_skipped,
    resolve_preprocessing,
)
from googlenet_deploy.errors import GoogLeNetDeployError

if TYPE_CHECKING:
    from googlenet_deploy.device.pipeline import ImageBatches
    from googlenet_deploy.device.runner.protocol import Runner

NAME_WIDTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders, patterns, or - for standard input")
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes shown per image (default 5)")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")
    parser.add_argument(
        "--json", metavar="FILE", help="write one JSON object per image and line; - for standard output"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table; - for standard output")
    add_runner_options(parser)
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classifies the images and prints or writes what was found."""
    from googlenet_deploy.device.pipeline import ImageBatches
    from googlenet_deploy.device.runner.select import open_runner
    from googlenet_deploy.device.sources import find_images

    sources = find_images(arguments.paths)
    if not sources.images:
        raise GoogLeNetDeployError(f"{', '.join(arguments.paths)}: no images found")
    with open_runner(arguments.model, arguments.backend, threads=arguments.threads) as runner:
        spec = resolve_preprocessing(arguments, runner)
        names = class_names(arguments, runner)
        batches = ImageBatches(
            sources.images, spec, arguments.batch, workers=arguments.workers, backend=arguments.image_backend
        )
        start = time.perf_counter()
        rows = _classify(runner, batches, names, arguments)
        seconds = time.perf_counter() - start
        backend = runner.backend
    report_skipped(batches.skipped, sources.other_files)
    if not rows:
        raise GoogLeNetDeployError(f"not one of {len(batches.skipped)} images could be used")
    _write(rows, arguments)
    rate = f"{len(rows) / seconds:.1f} images/s"
    print(f"{len(rows)} images, {len(batches.skipped)} skipped, {rate}, {backend}", file=sys.stderr)
    return 0


def _classify(
    runner: Runner, batches: ImageBatches, names: Tuple[str, ...], arguments: argparse.Namespace
) -> List[Dict[str, Any]]:
    from googlenet_deploy.device.predictions import class_scores, predict
    from googlenet_deploy.device.progress import progress
    from googlenet_deploy.device.runner.protocol import run_any_batch

    rows: List[Dict[str, Any]] = []
    with progress("classify", len(batches.sources), quiet=arguments.quiet) as advance:
        for batch in batches:
            outputs = run_any_batch(runner, batch.array)
            if not rows and "top_k_indices" not in outputs:
                check_class_count(names, class_scores(outputs, runner.path).shape[1], runner.path)
            answers = predict(outputs, arguments.top_k, runner.path)
            shares = answers.scores if answers.probabilities is None else answers.probabilities
            kind = "score" if answers.probabilities is None else "probability"
            for name, indices, values in zip(batch.names, answers.indices.tolist(), shares.tolist()):
                classes = [
                    {"class": index, "name": names[index] if index < len(names) else str(index), kind: value}
                    for index, value in zip(indices, values)
                ]
                rows.append({"image": name, "classes": classes})
            advance(len(batch.names))
    return rows


def _write(rows: List[Dict[str, Any]], arguments: argparse.Namespace) -> None:
    from googlenet_deploy.device.files import write_text

    if arguments.json is None and arguments.csv is None:
        print(_table(rows), end="")
    for path, form in ((arguments.json, _json_lines), (arguments.csv, _csv)):
        if path == "-":
            print(form(rows), end="")
        elif path is not None:
            write_text(path, form(rows))


def _json_lines(rows: List[Dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: List[Dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "name", "probability"])
    for row in rows:
        for rank, answer in enumerate(row["classes"], 1):
            value = answer.get("probability", answer.get("score"))
            writer.writerow([row["image"], rank, answer["class"], answer["name"], f"{value:.6f}"])
    return text.getvalue()


def _table(rows: List[Dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        lines.append(row["image"])
        for answer in row["classes"]:
            name = answer["name"] if len(answer["name"]) <= NAME_WIDTH else answer["name"][: NAME_WIDTH - 3] + "..."
            value = f"{answer['probability']:8.2%}" if "probability" in answer else f"{answer['score']:9.3f}"
            lines.append(f"  {value}  {name} ({answer['class']})")
    return "\n".join(lines) + "\n" if lines else ""
