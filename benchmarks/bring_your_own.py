"""Networks that are not the toolkit's own, from their checkpoints to tested bundles.

- ``trained``: the plain GoogLeNet, which learns three textures, drawn at 32x32 and stretched to 224x224, at an eighth
  of the width: some 300 steps of Adam with the notebook's loss, 1 + 0.3 + 0.3, and label smoothing, without which its
  scores grow to 300 and more.
- ``fresh``: the plain GoogLeNet of full width with 10 classes, as the repository of the network saves it.
- ``own``: a GoogLeNet written by a user, `own_googlenet.py`, with a checkpoint as Lightning writes it.
- ``resnet18`` and ``mobilenetv3``: of timm, by ``--module timm:create_model``, with a checkpoint as timm's training
  writes it and with one of DataParallel's prefix.

Each goes through export, quantize, evaluate against FP32, a TensorRT-RTX build and deploy. Then a plain GoogLeNet's
weights are wrapped in every usual way, loaded, exported and compared: the same graph and weights, byte by byte.

Results are kept in build/bring-your-own; with --keep those that are there already are not measured again.

    python benchmarks/bring_your_own.py [--timm-python PATH] [--only NAME ...] [--keep] [--record]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from commands import command, evaluate, read_json
from harness import IMAGES as PHOTOGRAPHS
from harness import ROOT, options, record, say, table
from numpy.typing import NDArray
from own_googlenet import googlenet
from safetensors.torch import save_file

sys.path.insert(0, str(ROOT))
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.export.export_model import export
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.samples import folder_samples
from googlenet_deploy.graph.files import read_metadata
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.weights import load_weights
from tests.support.textures import write_textures

WIDTH, EPOCHS, CLASSES = "0.125", "8", 10
LARGEST_DIFFERENCE, AGREEMENT = 1e-4, 98.0
NAMES = ("columns", "rows", "squares")
FOLDER = ROOT / "build" / "bring-your-own"
IMAGES, FEW = FOLDER / "textures", FOLDER / "few"
TIMM = {"resnet18": ("resnet18", "resnet18.pth.tar"), "mobilenetv3": ("mobilenetv3_small_100", "mobile.safetensors")}
Scores = NDArray[Any]
State = dict[str, torch.Tensor]


class Difference(NamedTuple):
    """The largest difference between two networks' scores, and the largest score."""

    largest: float
    score: float


class Network(NamedTuple):
    """A network to deploy: the options that name it, its plain PyTorch scores, and the images to use."""

    source: tuple[str | Path, ...]
    scores: Callable[[Scores], Scores]
    images: Path
    python: str | Path = sys.executable


def main() -> int:
    parser = options(__doc__ or "", rounds=1)
    parser.add_argument("--timm-python", type=Path, metavar="PATH", help="an interpreter that has timm")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone; wrappers is one of the names")
    parser.add_argument("--keep", action="store_true", help="do not measure again what build/bring-your-own holds")
    arguments = parser.parse_args()
    make_images()
    accuracy = train(FOLDER / "trained.safetensors")
    say(f"trained for {EPOCHS} epochs of 37 steps: {accuracy:.2f} % of the validation images")
    made: dict[str, Callable[[], Network]] = {"trained": trained, "fresh": fresh, "own": own}
    if arguments.timm_python is not None:
        made |= {name: partial(of_timm, name, arguments.timm_python) for name in TIMM}
    chosen = arguments.only or [*made, "wrappers"]
    rows = {name: kept(name, arguments.keep, partial(deploy, name, made[name])) for name in made if name in chosen}
    holds = {}
    if rows:
        headings = list(next(iter(rows.values())))
        table(
            ("network", *headings), [(name, *(f"{row[item]:.3g}" for item in headings)) for name, row in rows.items()]
        )
        holds["FP32 within 1e-4 of PyTorch, all networks"] = all(
            row["largest"] <= LARGEST_DIFFERENCE for row in rows.values()
        )
    if "trained" in rows:
        holds[f"INT8 agrees with FP32 on at least {AGREEMENT:g} %, trained"] = rows["trained"]["agreement"] >= AGREEMENT
    wrapped = kept("wrappers", arguments.keep, check_wrappers) if "wrappers" in chosen else {}
    if wrapped:
        titles = ("wrapper", "tensors", "exported graph", "largest difference")
        table(titles, [(name, *words) for name, words in wrapped.items()])
        holds["every wrapper is loaded and exported as the plain state dict"] = not any(
            "WRONG" in words for words in wrapped.values()
        )
    for what, held in holds.items():
        say(f"{what}: {'yes' if held else 'NO'}")
    if arguments.record:
        record("bring_your_own", {"accuracy": accuracy, **rows, "wrappers": wrapped, "holds": holds})
    return 0 if all(holds.values()) else 1


def kept(name: str, keep: bool, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measures, or returns what an earlier run measured."""
    path = FOLDER / f"{name}.figures.json"
    if not (keep and path.exists()):
        path.write_text(json.dumps(measure()), encoding="utf-8")
    return read_json(path)


def make_images() -> None:
    """Three textures to train on and to validate with, and a few for the networks that learned nothing."""
    for folder, count, seed in ((IMAGES / "train", 200, 1), (IMAGES / "val", 60, 2), (FEW, 8, 3)):
        if not folder.exists():
            write_textures(folder, NAMES, count, seed=seed)


def train(path: Path) -> float:
    """Trains the narrow network; returns its accuracy in percent."""
    report = path.with_suffix(".json")
    if not path.exists() or path.with_suffix(".state.safetensors").exists():
        command(
            *("train", "--data", IMAGES, "--output", path, "--architecture", "plain", "--width", WIDTH, "--resume"),
            *("--resize-mode", "stretch", "--optimizer", "adam", "--lr", "0.001", "--schedule", "cosine"),
            *("--epochs", EPOCHS, "--batch-size", "16", "--label-smoothing", "0.1", "--json", report, "--quiet"),
        )
    accuracy: float = read_json(report)["validation"]["top1_percent"]
    return accuracy


def trained() -> Network:
    weights = FOLDER / "trained.safetensors"
    return Network(("--weights", weights), lambda images: run(load_weights(weights).model, images), IMAGES / "val")


def fresh() -> Network:
    """A checkpoint of the network's own kind: a state dict of full width with auxiliary heads."""
    torch.manual_seed(0)
    model, path = GoogLeNet(ARCHITECTURES["plain"], CLASSES, auxiliary=True), FOLDER / "fresh.pth"
    torch.save(model.state_dict(), path)
    return Network(("--weights", path), lambda images: run(model, images), FEW)


def own() -> Network:
    """The user's file, whose BatchNorm takes its statistics from photographs.

    On grey textures alone some channels hardly vary, and BatchNorm would amplify the rounding of any other image.
    """
    torch.manual_seed(0)
    model, path = googlenet(CLASSES), FOLDER / "own.ckpt"
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None  # a plain average
        model.train()(torch.from_numpy(folder_samples(PHOTOGRAPHS, Preprocessing(), 24).prepared))
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}}, path)
    place = f"{Path(__file__).with_name('own_googlenet.py')}:googlenet"
    source = ("--module", place, "--module-args", f"num_classes={CLASSES}", "--weights", path)
    return Network((*source, "--preprocessing", "imagenet"), lambda images: run(model, images), FEW)


def of_timm(name: str, python: Path) -> Network:
    """A network of timm, which prepares its images as it declares."""
    architecture, file = TIMM[name]
    weights, prepared, scores = FOLDER / file, FOLDER / f"{name}.npy", FOLDER / f"{name}.scores.npy"

    def worker(what: str, images: Scores, *paths: Path) -> None:
        np.save(prepared, images)
        script = Path(__file__).with_name("timm_module_worker.py")
        words = (python, script, what, architecture, CLASSES, prepared, *paths)
        subprocess.run([str(word) for word in words], check=True)

    def wanted(images: Scores) -> Scores:
        worker("scores", images, weights, scores)
        values: Scores = np.load(scores)
        return values

    # Photographs, for the reason given in `own`.
    worker("checkpoint", folder_samples(PHOTOGRAPHS, Preprocessing(), 24).prepared, weights)
    source = ("--module", "timm:create_model", "--module-args", f"{architecture},num_classes={CLASSES}")
    return Network((*source, "--weights", weights), wanted, FEW, python)


def run(model: torch.nn.Module, images: Scores) -> Scores:
    """The scores of plain PyTorch in eval mode."""
    with torch.inference_mode():
        scores: Scores = model.eval()(torch.from_numpy(images)).numpy()
    return scores


def difference(model: Path, scores: Callable[[Scores], Scores]) -> Difference:
    """How far the scores of the exported model in ONNX Runtime are from PyTorch's, on 16 images."""
    preprocessing = read_metadata(model, onnx.load(model)).preprocessing
    assert preprocessing is not None
    prepared = folder_samples(FEW, preprocessing, 16).prepared
    wanted = scores(prepared)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    largest = float(np.abs(session.run(["logits"], {"input": prepared})[0] - wanted).max())
    score = float(np.abs(wanted).max())
    return Difference(largest, score)


def deploy(name: str, make: Callable[[], Network]) -> dict[str, float]:
    """Runs everything from a checkpoint to a bundle, and the bundle's self-test."""
    network = make()
    model, int8, engine = (FOLDER / f"{name}{ending}" for ending in (".onnx", ".int8.onnx", ".engine"))
    command("export", *network.source, "--output", model, "--quiet", python=network.python)
    calibration = IMAGES / "train" if network.images == IMAGES / "val" else FEW
    command("quantize", model, "--images", calibration, "--count", "96", "--output", int8, "--quiet")
    figures = evaluate(int8, network.images, "--reference", model, "--layers", "0")
    command(
        *("build", int8, "--backend", "tensorrt-rtx", "--compute-capability", "8.6", "--batch", "1,4,4"),
        *("--output", engine, "--quiet"),
    )
    deployed, unpacked = FOLDER / f"{name}-deployed", FOLDER / f"{name}-bundle"
    command(
        *("deploy", *network.source, "--images", network.images, "--target", "orin-nano", "--output", deployed),
        *(
            "--precision",
            "int8",
            "--calibration-images",
            "24",
            "--no-benchmark",
            "--no-sensitivity",
            "--no-gates",
            "--quiet",
        ),
        python=network.python,
    )
    shutil.unpack_archive(deployed / "bundle.zip", unpacked)
    command("selftest", next(unpacked.rglob("manifest.json")).parent)
    return {
        **difference(model, network.scores)._asdict(),
        "agreement": figures["agreement"],
        "sqnr": figures["sqnr"],
        "engine_bytes": float(engine.stat().st_size),
        "bundle_bytes": float((deployed / "bundle.zip").stat().st_size),
    }


def check_wrappers() -> dict[str, tuple[str, str, str]]:
    """Loads and exports every wrapper.

    Returns, by wrapper: whether its tensors are those of the plain state dict, whether the exported graph with its
    weights is the plain one byte by byte, so that everything later is the same too, and the largest difference of the
    exported model from PyTorch. Weights in 16 bits are compared with the rounded weights.
    """
    torch.manual_seed(1)
    model = GoogLeNet(ARCHITECTURES["plain"], CLASSES)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    folder, found, plain = FOLDER / "wrappers", {}, b""
    folder.mkdir(exist_ok=True)
    for name, content in wrappers(state).items():
        path = folder / name
        write(content, path)
        kind = next((dtype for dtype in (torch.float16, torch.bfloat16) if name.startswith(str(dtype)[6:])), None)
        wanted = {key: value.to(kind).float() if kind else value for key, value in state.items()}
        loaded = load_weights(path).model
        tensors = loaded.state_dict()
        same = tensors.keys() == wanted.keys() and all(torch.equal(tensors[key], wanted[key]) for key in wanted)
        made = folder / f"{name}.onnx"
        export(path, made, options=ExportOptions(simplify=False))
        graph = onnx.load(made).graph.SerializeToString(deterministic=True)
        plain = plain or graph
        largest = difference(made, partial(run, loaded)).largest
        found[name] = (
            "rounded" if same and kind else "the same" if same else "WRONG",
            "-" if kind else "the same" if graph == plain else "WRONG",
            f"{largest:.1e}" if largest <= LARGEST_DIFFERENCE else "WRONG",
        )
    found["whole model"] = (whole_model(model, folder / "whole.pth"), "-", "-")
    return found


def write(content: Any, path: Path) -> None:  # noqa: ANN401 - what a checkpoint holds
    """Writes a checkpoint in the form that its name says."""
    if path.name.endswith(".safetensors"):
        save_file(content, path)
    elif path.suffix == ".json":
        names = sorted(content)
        shards = {f"shard-{number}.safetensors": names[number::2] for number in range(2)}
        for shard, part in shards.items():
            save_file({name: content[name] for name in part}, path.with_name(shard))
        places = {name: shard for shard, part in shards.items() for name in part}
        path.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    else:
        torch.save(content, path)


def whole_model(model: torch.nn.Module, path: Path) -> str:
    """Whether a whole pickled model is refused with the line that saves its state dict."""
    torch.save(model, path)
    try:
        load_weights(path)
    except BadWeightsError as error:
        return "refused" if "torch.save(model.state_dict()" in (error.remedy or "") else "WRONG"
    return "WRONG"


def wrappers(state: State) -> dict[str, Any]:
    """The contents of checkpoints by their file names; the plain state dict first."""

    def named(prefix: str, values: State = state) -> State:
        return {f"{prefix}{name}": value for name, value in values.items()}

    other = {name: value + 0.01 for name, value in state.items()}
    averaged = {"n_averaged": torch.tensor(5), **named("module.")}
    prefixes = ("module.", "model.", "net.", "backbone.", "_orig_mod.", "ema.", "module._orig_mod.model.")
    keys = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
    extra = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.7), "optimizer": {"state": {}}, "epoch": 3}
    return {
        "plain.pth": state,
        **{f"{prefix}pth": named(prefix) for prefix in prefixes},
        **{f"{prefix}safetensors": named(prefix) for prefix in prefixes},
        **{f"{key}.pth.tar": {key: state, **extra} for key in keys},
        **{f"{key}.pth.tar": {"state_dict": other, key: state} for key in ("ema", "state_dict_ema", "model_ema")},
        "model.safetensors.index.json": state,
        "averaged.pth": averaged,
        "averaged-beside.pth": {"model": other, "model_ema": averaged},
        "lightning.ckpt": {
            "state_dict": named("model."),
            "pytorch-lightning_version": "2.5",
            "hyper_parameters": extra,
        },
        "float16.pth": {name: value.half() for name, value in state.items()},
        "bfloat16.safetensors": {name: value.bfloat16() for name, value in state.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
