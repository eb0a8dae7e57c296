"""`train --prune` by the command, and every command that takes what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from textures import write_textures

from googlenet_deploy.cli.main import main
from googlenet_deploy.graph.files import load_model
from googlenet_deploy.model.checkpoint import load_checkpoint
from googlenet_deploy.model.summary import summarize

SMALL = ["--augmentation", "none", "--batch-size", "12", "--workers", "1", "--auxiliary-weight", "0", "--quiet"]
PRUNE = ["--prune", "0.4", "--prune-round", "8", "--prune-steps", "2", "--epochs", "2"]


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of sixteen images."""
    return write_textures(tmp_path_factory.mktemp("textures") / "data", ("columns", "rows", "squares"), 16)


@pytest.fixture(scope="module")
def dense(textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain net of a quarter of the width after two epochs."""
    output = tmp_path_factory.mktemp("dense") / "dense.safetensors"
    shape = ["--architecture", "plain", "--width", "0.25", "--input-size", "32"]
    assert train(textures, output, *shape, "--epochs", "2") == 0
    return output


@pytest.fixture(scope="module")
def pruned(textures: Path, dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pruned") / "pruned.safetensors"
    assert train(textures, output, "--weights", str(dense), *PRUNE) == 0
    return output


def train(data: Path, output: Path, *options: str) -> int:
    return main(["train", "--data", str(data), "--output", str(output), *SMALL, *options])


def test_the_checkpoint_is_a_smaller_network(dense: Path, pruned: Path) -> None:
    before, after = (load_checkpoint(path) for path in (dense, pruned))
    sizes = [summarize(checkpoint.model, 32).multiply_adds for checkpoint in (before, after)]
    assert 0.55 < sizes[1] / sizes[0] <= 0.6
    record = after.training_record["pruning"]
    assert (record["by"], record["before"], record["after"]) == ("multiply-adds", *sizes)
    assert after.training_record["options"]["pruning"]["share"] == 0.4
    assert after.class_names == before.class_names
    left, all_of_them = (sum(each.model.widths.channels.values()) for each in (after, before))
    assert before.title.startswith(f"GoogLeNet ({before.name})")
    assert after.title == f"{before.title}, pruned to {100 * left / all_of_them:.0f} % of its channels"
    assert after.training_record["epoch"] == 2  # an epoch ahead of the last step cannot be the best


def test_an_interrupted_run_ends_in_the_same_bytes(
    textures: Path, dense: Path, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from googlenet_deploy.training import run as session

    output, original = tmp_path / "m.safetensors", session.save_state

    def interrupted(path: Path, state: object) -> None:
        original(path, state)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "save_state", interrupted)
        assert train(textures, output, "--weights", str(dense), *PRUNE, "--save-every", "2") == 130
    assert output.with_suffix(".state.safetensors").exists()
    assert train(textures, output, "--weights", str(dense), *PRUNE, "--save-every", "2", "--resume") == 0
    assert output.read_bytes() == pruned.read_bytes()


def test_every_command_takes_a_pruned_network(textures: Path, pruned: Path, tmp_path: Path) -> None:
    model, int8, table = (str(tmp_path / name) for name in ("p.onnx", "p.int8.onnx", "t.json"))
    assert main(["export", "--weights", str(pruned), "--output", model, "--quiet"]) == 0
    checkpoint = load_checkpoint(pruned)
    weights = {tensor.name: list(tensor.dims) for tensor in load_model(model).graph.initializer}
    channels = checkpoint.model.widths.channels
    for name, path in (("conv3", "conv3"), ("inception4e.conv3x3", "inception4e/layer2/1")):
        assert any(dims[0] == channels[name] and key.startswith(path) for key, dims in weights.items()), weights
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = checkpoint.model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: x})[0], expected, rtol=1e-3, atol=1e-4)

    images = ["--images", str(textures), "--count", "12"]
    assert main(["calibrate", model, *images, "--output", table, "--quiet"]) == 0
    assert main(["quantize", model, "--table", table, "--output", int8, "--quiet"]) == 0
    bounds = tmp_path / "bounds.json"
    assert main(["estimate", model, "--target", "nano", "--precision", "fp16", "--json", str(bounds)]) == 0
    assert sum(layer["multiply_adds"] for layer in json.loads(bounds.read_text())["layers"]) == (
        summarize(checkpoint.model, 32).multiply_adds
    )
    learnt = tmp_path / "qat.onnx"
    qat = ["train", "--data", str(textures), "--qat", model, "--table", table, "--refine", "none", "--epochs", "1"]
    fixed = ["--augmentation", "none", "--batch-size", "12", "--workers", "1", "--quiet"]
    assert main([*qat, *fixed, "--distill-from", str(pruned), "--output", str(learnt)]) == 0
    assert main(["evaluate", str(learnt), "--images", str(textures), "--quiet"]) == 0


def test_a_narrow_network_imitates_another(
    textures: Path, dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "narrow.safetensors"
    shape = ["--width", "0.125", "--input-size", "32", "--epochs", "1", "--distill-from", str(dense)]
    assert train(textures, output, *shape) == 0
    record = load_checkpoint(output).training_record
    assert record["options"]["distill_from"] == str(dense)
    assert len(record["teacher_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prune", "0.5"], "--prune prunes a trained network: pass its --weights"),
        (["--prune", "1.5"], "--prune must be above 0 and below 1, is 1.5"),
        (["--prune-steps", "3"], "--prune-steps belongs to --prune"),
        (["--target", "nano"], "--target belongs to --prune"),
        (["--distillation", "0.7"], "name it with --distill-from"),
        (["--scales", "fixed"], "--scales belongs to --qat"),
        (["--refine", "none"], "--refine belongs to --qat"),
        (["--prune", "0.5", "--weights", "W", "--epochs", "3"], "the last of 4 pruning steps comes with epoch 4"),
        (["--prune", "0.99", "--weights", "W"], "pass --prune 0."),
        (["--prune", "0.5", "--prune-round", "128", "--weights", "W"], "no layer has more than 128 channels"),
        (["--prune", "0.5", "--target", "orin-max", "--weights", "W"], "unknown target 'orin-max'"),
    ],
)
def test_wrong_usage(
    textures: Path,
    dense: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    given = [str(dense) if option == "W" else option for option in options]
    assert train(textures, tmp_path / "m.safetensors", *given) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
