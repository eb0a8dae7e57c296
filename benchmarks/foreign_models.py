"""Classifiers of other tools through every command, and their INT8 accuracy beside onnxruntime's.

Each model goes through inspect, infer, calibrate, quantize, lint, FP16 export, a TensorRT-RTX build, estimate and
bundle, each in a process of its own with a time limit. A command ends well (ok), is refused with a reason (exit status
1, or 3 where a gate does not hold), or fails: a traceback, a signal, wrong usage, or no end in time. Both quantisers
get the same calibration images and are compared with FP32 on the same held-back ones.

Results of single models are kept in build/foreign-models; with --keep those that are there already are not measured
again.

    python benchmarks/foreign_models.py [--timm-python PATH] [--only TEXT ...] [--keep] [--record]
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness import IMAGES, ROOT, options, record, say, table

sys.path.insert(0, str(ROOT))
from foreign_sources import ForeignModel, MissingModel, light_models, package_models, timm_models

FOLDER = ROOT / "build" / "foreign-models"
CALIBRATION_IMAGES, HELD_BACK_IMAGES, STATISTICS_IMAGES = 32, 48, 48
LIMIT_SECONDS = 900
CHILD = "import sys; from googlenet_deploy.cli.main import main; sys.exit(main(sys.argv[1:]))"
KEPT = "quantize --keep-doubtful"  # where the result was refused as ruined, to compare it nevertheless
COMMANDS = ("inspect", "infer", "calibrate", "quantize", "lint", "fp16", "build", "estimate", "bundle")
LOWER_DB = 0.3  # below onnxruntime's SQNR


class Outcome(NamedTuple):
    """How a command ended: "ok", "refused" or "failed", and why."""

    state: str
    reason: str = ""


class Images(NamedTuple):
    """Two folders of links to photographs, and the images for BatchNorm's statistics."""

    calibration: Path
    held_back: Path
    statistics: list[Path]


def choose_images(folder: Path) -> Images:
    """Photographs spread over the sample, in turns for calibration, for the comparison and for statistics."""
    paths = sorted(path for path in IMAGES.iterdir() if path.suffix == ".jpg")
    counts = (CALIBRATION_IMAGES, HELD_BACK_IMAGES, STATISTICS_IMAGES)
    chosen = iter(paths[:: len(paths) // sum(counts)])
    parts = [[next(chosen) for _ in range(count)] for count in counts]
    for name, part in zip(("calibration", "held-back"), parts[:2], strict=True):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        for path in part:
            (folder / name / path.name).symlink_to(path.resolve())
    return Images(folder / "calibration", folder / "held-back", parts[2])


def run(*words: str | Path) -> Outcome:
    """One command of the toolkit in a process of its own."""
    return ended(sys.executable, "-c", CHILD, *words)


def ended(*words: str | Path) -> Outcome:
    """How a process ended; it and its child processes are stopped at the time limit."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        child = subprocess.Popen(list(map(str, words)), stdout=said, stderr=said, start_new_session=True)
        try:
            status = child.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return Outcome("failed", f"no end in {LIMIT_SECONDS} s")
        said.seek(0)
        lines = [line for line in said.read().splitlines() if line.strip()]
    return outcome_of(status, lines)


def outcome_of(status: int, lines: list[str]) -> Outcome:
    """The outcome, from the exit status and the output."""
    last = shortened(lines[-1] if lines else "")
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return Outcome("failed", f"traceback: {last}")
    if status == 0:
        return Outcome("ok")
    if status in (1, 3):
        errors = [line for line in lines if re.match(r"(googlenet-deploy|error)\b.*:", line)]
        return Outcome("refused", shortened(errors[-1] if errors else last))
    return Outcome("failed", f"exit status {status}: {last}")


def shortened(line: str) -> str:
    return line.replace(f"{FOLDER}/", "").replace(f"{ROOT}/", "")[:300]


def commands(model: ForeignModel, folder: Path, images: Images) -> Iterator[tuple[str, tuple[str | Path, ...]]]:
    """Each command's name and arguments; those after quantize use the INT8 model if there is one."""
    spec: tuple[str | Path, ...] = ("--preprocessing", folder / "preprocessing.json")
    some = sorted(images.held_back.iterdir())[:4]
    int8, calibration = folder / "int8.onnx", images.calibration
    yield "inspect", ("inspect", model.path, "--totals")
    yield "infer", ("infer", model.path, *some, *spec, "--quiet")
    yield (
        "calibrate",
        ("calibrate", model.path, "--images", calibration, "--count", "8", "--output", folder / "table.json", *spec),
    )
    quantize: tuple[str | Path, ...] = (
        *("quantize", model.path, "--images", calibration, "--count", str(CALIBRATION_IMAGES), "--output", int8),
        *("--check-from", images.held_back, "--check-images", "16", "--quiet", *spec),
    )
    yield "quantize", quantize
    if not int8.exists():
        yield KEPT, (*quantize, "--keep-doubtful")
    best = int8 if int8.exists() else model.path
    yield "lint", ("quantize", "--lint", best)
    yield "fp16", ("export", "--onnx", model.path, "--fp16", "--output", folder / "fp16.onnx", "--quiet", *spec)
    yield (
        "build",
        (
            *("build", best, "--backend", "tensorrt-rtx", "--compute-capability", "8.6"),
            *("--output", folder / "model.engine", "--quiet"),
        ),
    )
    yield "estimate", ("estimate", best, "--target", "orin-nano")
    packed: tuple[str | Path, ...] = ("--int8", int8) if int8.exists() else ()
    yield (
        "bundle",
        (
            *("bundle", "--kind", "jetson", "--target", "orin-nano", "--fp32", model.path, *packed),
            *("--images", images.held_back, "--output", folder / "bundle.zip", *spec),
        ),
    )


def measure(model: ForeignModel, folder: Path, images: Images) -> dict[str, Any]:
    """Every command's outcome, the share of INT8 and the comparison."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "preprocessing.json").write_text(model.preprocessing.to_json(), encoding="utf-8")
    outcomes = {}
    for name, words in commands(model, folder, images):
        outcomes[name] = run(*words)
        print(f"  {name}: {' '.join(outcomes[name])}", flush=True)
    found: dict[str, Any] = {"commands": {name: outcome._asdict() for name, outcome in outcomes.items()}}
    return {**found, **int8_share(folder), **comparison(model, folder, images)}


def int8_share(folder: Path) -> dict[str, Any]:
    """Layers in INT8 and their share of the multiply-adds in percent, as `inspect` counts them."""
    path = folder / "inspect.json"
    if not (folder / "int8.onnx").exists() or run("inspect", folder / "int8.onnx", "--json", path).state != "ok":
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    share = content["totals"]["multiply_adds_by_type"].get("int8", 0.0)
    return {
        "int8_layers": sum(layer["quantized"] for layer in content["layers"]),
        "int8_percent": round(100 * share, 2),
        "float_layers": len(content["float_layers"]),
    }


def comparison(model: ForeignModel, folder: Path, images: Images) -> dict[str, Any]:
    """SQNR and agreement of both quantisers."""
    worker, output = Path(__file__).with_name("foreign_models_worker.py"), folder / "comparison.json"
    files = (model.path, folder / "int8.onnx", folder / "onnxruntime.onnx", folder / "preprocessing.json")
    outcome = ended(sys.executable, worker, *files, images.calibration, images.held_back, output)
    if outcome.state != "ok":
        return {"comparison_failed": outcome.reason}
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    print(f"  {found}", flush=True)
    return found


def kept(model: ForeignModel, images: Images, *, keep: bool) -> dict[str, Any]:
    """A model's result, from an earlier run if permitted, otherwise measured."""
    name = re.sub(r"[^\w.-]+", "-", model.name).strip("-")
    path = FOLDER / "results" / f"{name}.json"
    if not (keep and path.exists()):
        print(f"{model.name}: {model.path}", flush=True)
        found = measure(model, FOLDER / name, images)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
        for file in ("onnxruntime.onnx", "onnxruntime.ready.onnx", "model.engine", "bundle.zip", "fp16.onnx"):
            (FOLDER / name / file).unlink(missing_ok=True)
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def figure(result: dict[str, Any], who: str, what: str) -> str:
    """A table cell; scores that do not depend on the image have no meaningful SQNR."""
    values = result.get(who)
    return "-" if values is None or values["constant"] else f"{values[what]:.1f}"


def behind(result: dict[str, Any]) -> bool:
    """Whether the SQNR is below onnxruntime's by more than the tolerance."""
    ours, theirs = result.get("ours"), result.get("onnxruntime")
    return bool(ours and theirs and not ours["constant"] and ours["sqnr"] < theirs["sqnr"] - LOWER_DB)


def show(results: dict[str, dict[str, Any]]) -> None:
    """Prints the tables of outcomes and accuracy, and every reason."""
    marks = {"ok": "ok", "refused": "refused", "failed": "FAILED"}
    rows = [
        (name, *(marks[result["commands"][command]["state"]] for command in COMMANDS))
        for name, result in results.items()
    ]
    table(("model", *COMMANDS), rows)
    say("")
    headings = ("model", "INT8", "float", "% of MACs", "SQNR dB", "onnxruntime", "agreement %", "onnxruntime", "of")
    table(headings, [accuracy_row(name, result) for name, result in results.items()])
    say("- : the scores do not depend on the image (constant weights), or there is no INT8 model")
    for name, result in results.items():
        for command, outcome in result["commands"].items():
            if outcome["state"] != "ok":
                say(f"{name}: {command} {outcome['state']}: {outcome['reason']}")
        for key in ("comparison_failed", "onnxruntime_failed"):
            if key in result:
                say(f"{name}: {key.replace('_', ' ')}: {result[key]}")


def accuracy_row(name: str, result: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(result.get(key, "-")) for key in ("int8_layers", "float_layers", "int8_percent"))
    cells = (figure(result, who, what) for what in ("sqnr", "agreement") for who in ("ours", "onnxruntime"))
    return (name, *counts, *cells, str(result.get("ours", result.get("onnxruntime", {})).get("of", "-")))


def main() -> int:
    parser = options(__doc__ or "", rounds=1)
    parser.add_argument("--timm-python", type=Path, metavar="PATH", help="an interpreter that has timm")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="of these models: parts of their names")
    parser.add_argument("--keep", action="store_true", help="do not measure again what build/foreign-models holds")
    arguments = parser.parse_args()
    images = choose_images(FOLDER / f"images-{os.getpid()}")
    models = [
        *light_models(),
        *package_models(FOLDER / "packages"),
        *timm_models(arguments.timm_python, images.statistics, FOLDER / "timm"),
    ]
    chosen = [model for model in models if any(part in model.name for part in arguments.only)]
    found = [model for model in chosen if isinstance(model, ForeignModel)]
    missing = {model.name: model.reason for model in chosen if isinstance(model, MissingModel)}
    results = {model.name: kept(model, images, keep=arguments.keep) for model in found}
    shutil.rmtree(images.calibration.parent)
    say(f"{CALIBRATION_IMAGES} calibration images, {HELD_BACK_IMAGES} held back; timm's weights are not trained ones:")
    say("scaled to unit variance of every layer's output, with BatchNorm's statistics from other photographs")
    show(results)
    for name, reason in missing.items():
        say(f"{name}: skipped, {reason}")
    states = [outcome["state"] for result in results.values() for outcome in result["commands"].values()]
    holds = {
        "no command fails": "failed" not in states,
        f"none more than {LOWER_DB} dB below onnxruntime": not any(map(behind, results.values())),
    }
    for what, kept_promise in holds.items():
        say(f"{what}: {'yes' if kept_promise else 'NO'}")
    if arguments.record:
        record("foreign_models", {"models": results, "skipped": missing, "holds": holds})
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
