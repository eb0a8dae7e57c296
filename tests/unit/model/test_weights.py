from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.caffe_names import caffe_layers, from_caffe_name
from googlenet_deploy.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.weights import load_weights


@pytest.fixture
def model() -> GoogLeNet:
    torch.manual_seed(1)
    return GoogLeNet(ARCHITECTURES["torchvision"], 4).eval()


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(2)
    return Checkpoint(
        model=GoogLeNet(ARCHITECTURES["bvlc"], 3, width=0.125, auxiliary=True).eval(),
        architecture=ARCHITECTURES["bvlc"],
        preprocessing=Preprocessing(resize=64, crop=(64, 64)),
        class_names=("äpfel", "b", "c"),
        training_record={"epochs": 3, "accuracy": 0.5},
    )


def test_own_checkpoint_comes_back_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, checkpoint)
    loaded = load_weights(path, auxiliary=True)
    for field in ("architecture", "preprocessing", "class_names", "class_ids", "training_record"):
        assert getattr(loaded, field) == getattr(checkpoint, field)
    assert loaded.model.width == 0.125
    for name, tensor in checkpoint.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert load_checkpoint(path).model.aux1 is None
    assert len(loaded.source_sha256) == 64


def test_equal_checkpoints_are_equal_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, checkpoint)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy pickle"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_torchvision_state_dict(model: GoogLeNet, legacy: bool, wrapped: bool, tmp_path: Path) -> None:
    state = {f"module.{name}" if wrapped else name: tensor for name, tensor in model.state_dict().items()}
    path = tmp_path / "net.pth"
    torch.save({"state_dict": state} if wrapped else state, path, _use_new_zipfile_serialization=not legacy)
    loaded = load_weights(path)
    assert loaded.preprocessing == TORCHVISION
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.model(x), model(x), rtol=0, atol=0)


def test_auxiliary_heads_of_the_file_are_dropped_or_kept(tmp_path: Path) -> None:
    state = GoogLeNet(ARCHITECTURES["torchvision"], 4, auxiliary=True).state_dict()
    path = tmp_path / "net.pth"
    torch.save(state, path)
    assert load_weights(path).model.aux1 is None
    kept = load_weights(path, auxiliary=True).model
    torch.testing.assert_close(kept.state_dict()["aux2.fc2.weight"], state["aux2.fc2.weight"])


def test_transform_input_is_in_the_preprocessing() -> None:
    """torchvision normalises for ImageNet and transform_input undoes that; ours must give the same values."""
    pixels = torch.arange(256.0)
    imagenet = Preprocessing()
    for channel in range(3):
        normalised = (pixels * imagenet.scale - imagenet.mean[channel]) / imagenet.std[channel]
        mean, std = (0.485, 0.456, 0.406)[channel], (0.229, 0.224, 0.225)[channel]
        transformed = normalised * (std / 0.5) + (mean - 0.5) / 0.5  # torchvision's GoogLeNet._transform_input
        ours = (pixels * TORCHVISION.scale - TORCHVISION.mean[channel]) / TORCHVISION.std[channel]
        torch.testing.assert_close(ours, transformed, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("inception3a.branch1.conv.weight"), r"lacks tensor inception3a\.branch1\.conv\.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), r"unknown tensor extra\.weight"),
        (lambda s: s.update({"conv1.conv.weight": torch.zeros(1, 2)}), r"conv1\.conv\.weight is \(1, 2\) instead of"),
        (lambda s: s["conv1.conv.weight"].fill_(float("nan")), r"not finite in tensor conv1\.conv\.weight"),
        (lambda s: s["fc.bias"][:1].fill_(-1e25), r"has values of 1e\+19 and more in tensor fc\.bias"),
        (lambda s: s["conv1.bn.running_mean"][:1].fill_(float("inf")), r"not finite in tensor conv1\.bn\.running_mean"),
        (lambda s: s["conv1.bn.running_var"][:1].fill_(-0.5), r"negative variances in tensor conv1\.bn\.running_var"),
        (lambda s: s.pop("fc.weight"), "no classifier"),
    ],
    ids=["missing", "extra", "shape", "not finite", "large", "infinite mean", "negative variance", "no classifier"],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[dict[str, torch.Tensor]], object], words: str, model: GoogLeNet, tmp_path: Path
) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(state)
    path = tmp_path / "net.pth"
    torch.save(state, path)
    with pytest.raises(BadWeightsError, match=words):
        load_weights(path)


def test_wrong_class_count(model: GoogLeNet, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(model.state_dict(), path)
    with pytest.raises(BadWeightsError, match="has 4 classes, not 1000"):
        load_weights(path, num_classes=1000)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_never_run(protocol: int, tmp_path: Path) -> None:
    path, evidence = tmp_path / "evil.pth", tmp_path / "evidence"
    path.write_bytes(pickle.dumps({"fc.weight": Malicious(evidence)}, protocol=protocol))
    with pytest.raises(BadWeightsError, match="damaged"):
        load_weights(path)
    archive = tmp_path / "evil.zip.pth"
    torch.save({"fc.weight": Malicious(evidence)}, archive)
    with pytest.raises(BadWeightsError, match="refused"):
        load_weights(archive)
    assert not evidence.exists()


def bad_file(kind: str, folder: Path, model: GoogLeNet) -> Path:
    path = folder / "weights.bin"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated safetensors":
        save_file(model.state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "truncated pth":
        torch.save(model.state_dict(), path)
        path.write_bytes(path.read_bytes()[:50_000])
    elif kind == "zip of something else":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "damaged metadata":
        save_file(model.state_dict(), path, {"format": "googlenet_deploy", "architecture": "x"})
    elif kind == "hostile width":
        metadata = {"format": "googlenet_deploy", "architecture": "bvlc", "width": "1e9", "num_classes": "4"}
        save_file(model.state_dict(), path, {**metadata, "preprocessing": BVLC.to_json()})
    return path


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "folder", "truncated safetensors", "truncated pth", "zip of something else", "list",
     "damaged metadata", "hostile width"],
)  # fmt: skip
def test_bad_files_are_one_clear_line(
    kind: str, model: GoogLeNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bad_file(kind, tmp_path, model)
    output = tmp_path / "out.onnx"
    assert main(["export", "--weights", str(path), "--output", str(output), "--quiet"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(str(path) in line and "error:" in line for line in lines), lines
    assert not any("Traceback" in line for line in lines)
    assert not output.exists()


def test_caffe_names_cover_every_tensor_once() -> None:
    wanted = set(GoogLeNet(ARCHITECTURES["bvlc"], auxiliary=True).state_dict())
    found = {f"{module}.{parameter}" for module in caffe_layers().values() for parameter in ("weight", "bias")}
    assert found == wanted
    assert from_caffe_name("inception_4c/5x5_reduce.bias") == "inception4c.branch3.0.conv.bias"
    assert from_caffe_name("pool1/3x3_s2.weight") is None


def test_published_bvlc_weights(bvlc_weights: Path) -> None:
    checkpoint = load_weights(bvlc_weights)
    assert checkpoint.preprocessing == BVLC
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == 6_998_552
    assert checkpoint.class_names[0] == "tench, Tinca tinca"
    assert checkpoint.class_ids[0] == "n01440764"
