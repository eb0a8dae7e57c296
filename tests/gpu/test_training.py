"""`train` on a GPU, on textures drawn in the test: precisions, resuming, torch.compile, quantisation-aware training.

$GOOGLENET_DEPLOY_TEST_DEVICE=cpu runs the same on the CPU.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch", reason="training needs PyTorch")
for package in ("kornia", "webdataset", "sklearn", "safetensors", "onnxscript"):
    pytest.importorskip(package, reason=f"training needs {package}")

from plain_runtime import run as run_plainly  # noqa: E402 - after what may be missing, as the rest is
from plain_runtime import sqnr  # noqa: E402
from textures import write_textures  # noqa: E402

from googlenet_deploy.cli.main import main  # noqa: E402
from googlenet_deploy.device.images.pipeline import ImageBatches  # noqa: E402
from googlenet_deploy.device.images.sources import find_images  # noqa: E402
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner  # noqa: E402
from googlenet_deploy.graph.files import load_model  # noqa: E402
from googlenet_deploy.model.checkpoint import load_checkpoint  # noqa: E402
from googlenet_deploy.training import run as session  # noqa: E402
from googlenet_deploy.training.distributed import started_processes  # noqa: E402
from googlenet_deploy.training.loop import RunControl  # noqa: E402
from googlenet_deploy.training.options import QatOptions, TrainingOptions  # noqa: E402
from googlenet_deploy.training.qat.task import qat_task  # noqa: E402
from googlenet_deploy.training.resume_state import Outputs  # noqa: E402
from googlenet_deploy.training.run import train as train_run  # noqa: E402
from googlenet_deploy.training.setup import DataPlaces, classifier_task, prepare  # noqa: E402

SMALL = ("--width", "0.125", "--input-size", "32", "--augmentation", "light", "--batch-size", "16", "--quiet")
# Without BatchNorm, whose statistics of small batches multiply any rounding a thousand times in every step.
STEADY = ("--architecture", "bvlc", "--lr", "0.01", "--averaging", "0")
# Masks of dropout come from each device's own generator.
NO_DROPOUT = ("--dropout", "0", "--auxiliary-dropout", "0")
Train = Callable[..., int]


@pytest.fixture(scope="module")
def device() -> str:
    """Where training runs."""
    name = os.environ.get("GOOGLENET_DEPLOY_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("this PyTorch finds no CUDA GPU")
    return name


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of forty images."""
    return write_textures(tmp_path_factory.mktemp("textures") / "data", ("columns", "rows", "squares"), 40)


@pytest.fixture
def train(device: str, textures: Path) -> Train:
    """Runs the command on `textures`; gives its exit status."""

    def run(output: Path, *options: str) -> int:
        files = ("--data", str(textures), "--output", str(output), "--device", device)
        return main(["train", *files, *SMALL, *options])

    return run


@pytest.fixture
def reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    """FP32 convolutions of full width whose algorithms do not change from run to run."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture(scope="module")
def float_model(device: str, textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP32 model that was trained on the device; its calibration table lies beside it."""
    folder = tmp_path_factory.mktemp("float")
    weights, model = str(folder / "w.safetensors"), folder / "model.onnx"
    data = ("--data", str(textures), "--output", weights, "--device", device)
    assert main(["train", *data, *SMALL, "--epochs", "8"]) == 0
    assert main(["export", "--weights", weights, "--output", str(model), "--quiet"]) == 0
    calibration = ("--images", str(textures), "--count", "24", "--output", str(model.with_suffix(".json")), "--quiet")
    assert main(["calibrate", str(model), *calibration]) == 0
    return model


def losses(log: Path) -> list[float]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["train_loss"] for line in lines if line["event"] == "epoch"]


def prepared(images: Path, spec: Any) -> np.ndarray:
    array: np.ndarray = next(iter(ImageBatches(find_images([images]).images[::15], spec, 8))).array
    return array


def distance(first: Path, second: Path) -> float:
    """Of the weights after the last epoch."""
    ours, theirs = (
        torch.cat([weight.detach().double().flatten() for weight in load_checkpoint(path).model.parameters()])
        for path in (first.with_suffix(".last.safetensors"), second.with_suffix(".last.safetensors"))
    )
    return float((ours - theirs).norm())


def apart(train: Train, first: Path, second: Path) -> float:
    """How far the weights of two runs from the same start are apart, by how far the first one's went."""
    start = first.with_name("start.safetensors")
    assert train(start, "--epochs", "1", *STEADY, "--lr", "1e-9") == 0
    return distance(first, second) / distance(first, start)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_checkpoint_exports_to_the_same_answers(
    train: Train, device: str, textures: Path, tmp_path: Path, precision: str
) -> None:
    weights, log, model = tmp_path / "w.safetensors", tmp_path / "log.jsonl", tmp_path / "m.onnx"
    assert train(weights, "--precision", precision, "--epochs", "4", "--log", str(log)) == 0
    values = losses(log)
    assert all(math.isfinite(value) for value in values)
    assert values[-1] < values[0]
    checkpoint = load_checkpoint(weights)
    assert checkpoint.training_record["device"] == device
    assert checkpoint.training_record["options"]["precision"] == precision
    assert main(["export", "--weights", str(weights), "--output", str(model), "--quiet"]) == 0
    batch = prepared(textures, checkpoint.preprocessing)
    with OnnxRuntimeRunner(model, as_is=True) as runner, torch.inference_mode():
        np.testing.assert_allclose(
            runner.run(batch)["logits"], checkpoint.model(torch.from_numpy(batch)).numpy(), rtol=1e-3, atol=1e-4
        )


def test_a_run_that_goes_on_ends_where_an_uninterrupted_one_does(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reproducible: None
) -> None:
    whole, output = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    options = ("--epochs", "2", "--save-every", "3", *STEADY)
    assert train(whole, *options) == 0
    original = session.save_state

    def interrupted(path: Path, state: Any) -> None:
        original(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "save_state", interrupted)
        assert train(output, *options) == 130
    assert train(output, *options, "--resume") == 0
    assert apart(train, whole, output) <= 1e-3


def test_who_reads_the_images_changes_nothing(train: Train, tmp_path: Path, reproducible: None) -> None:
    paths = [tmp_path / "threads.safetensors", tmp_path / "processes.safetensors"]
    for path in paths:
        options = (*STEADY, *NO_DROPOUT, "--workers", "2", "--worker-type", path.stem)
        assert train(path, "--epochs", "2", "--augmentation", "natural", *options) == 0
    assert apart(train, *paths) <= 1e-3


@pytest.mark.parametrize("augmentation", ["natural", "paper", "none"])
def test_no_step_waits_for_the_gpu(device: str, textures: Path, augmentation: str) -> None:
    """PyTorch itself reports whatever waits; all of an epoch's steps are launched without."""
    if device == "cpu":
        pytest.skip("there is nothing to wait for")
    options = TrainingOptions(
        width=0.125, input_size=32, epochs=2, batch_size=16, augmentation=augmentation, mixup=0.2, precision="bf16"
    )
    with started_processes(device) as processes:
        run = prepare(DataPlaces(str(textures)), options, classifier_task, processes=processes, quiet=True).trainer
        evaluate, steps = run.evaluate, []

        class Watch(RunControl):
            def after_step(self, *, stop: bool) -> None:
                steps.append(run.step)
                if run.epoch == 2:  # the first one allocates
                    torch.cuda.set_sync_debug_mode("error")

        def measured(*arguments: Any) -> Any:
            torch.cuda.set_sync_debug_mode("default")
            return evaluate(*arguments)

        run.evaluate = measured
        try:
            assert len(list(run.epochs(Watch()))) == 2
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 2 * run.steps > 6


def test_other_batches_lead_elsewhere(train: Train, tmp_path: Path, reproducible: None) -> None:
    """So that the other tests' distances tell something."""
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    for path, size in zip(paths, ("16", "8"), strict=True):
        assert train(path, "--epochs", "2", *STEADY, *NO_DROPOUT, "--batch-size", size) == 0
    assert apart(train, *paths) > 0.05


def test_a_compiled_network_learns_the_same(train: Train, tmp_path: Path, reproducible: None) -> None:
    paths = [tmp_path / "plain.safetensors", tmp_path / "compiled.safetensors"]
    for path, flags in zip(paths, ((), ("--compile",)), strict=True):
        assert train(path, "--epochs", "2", *STEADY, *NO_DROPOUT, *flags) == 0
    assert apart(train, *paths) <= 1e-3


def test_the_gpu_learns_what_the_cpu_learns(train: Train, device: str, tmp_path: Path, reproducible: None) -> None:
    paths = [tmp_path / "there.safetensors", tmp_path / "cpu.safetensors"]
    for path, place in zip(paths, (device, "cpu"), strict=True):
        log = ("--log", str(path.with_suffix(".jsonl")))
        assert train(path, "--epochs", "2", *STEADY, *NO_DROPOUT, *log, "--device", place) == 0
        assert load_checkpoint(path).training_record["device"] == place
    there, here = (losses(path.with_suffix(".jsonl")) for path in paths)
    assert there == pytest.approx(here, rel=1e-4)
    assert apart(train, *paths) <= 1e-3


def test_the_int8_model_answers_as_the_network_that_was_trained(
    float_model: Path, textures: Path, device: str, tmp_path: Path, reproducible: None
) -> None:
    output, networks = tmp_path / "m.onnx", []
    make = qat_task(float_model, float_model.with_suffix(".json"))

    def keeping(options: Any, data: Any) -> Any:
        task = make(options, data)

        def write(path: Path, model: Any, record: dict[str, Any]) -> None:
            networks.append(copy.deepcopy(model).eval())
            task.write(path, model, record)

        return replace(task, write=write)

    options = TrainingOptions(
        epochs=1, batch_size=16, augmentation="none", device=device, qat=QatOptions(refine="none")
    )
    result = train_run(DataPlaces(str(textures)), Outputs(output), options, make_task=keeping, quiet=True)
    assert result.best is not None
    network = networks[0]
    assert next(network.parameters()).device.type == device
    batch = prepared(textures, load_checkpoint(float_model.with_name("w.safetensors")).preprocessing)
    theirs = run_plainly(load_model(output), batch, ["logits"])["logits"]
    for place in (device, "cpu"):
        with torch.inference_mode():
            ours = network.to(place)(torch.from_numpy(batch).to(place)).cpu().numpy()
        each = [sqnr(a, b) for a, b in zip(theirs, ours, strict=True)]
        # A sum that ends a hair from the middle between two codes may round either way, which few images show.
        assert np.median(each) > 80, each
        assert min(each) > 20, each
