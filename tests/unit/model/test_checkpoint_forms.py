"""Checkpoints as training tools write them: the right tensors, with a word about each choice, or a refusal."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint_forms import choose_state_dict, read_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.weights import load_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """Weights of each architecture with five classes, and others of the plain one that stand for the average."""
    torch.manual_seed(5)
    nets = {name: GoogLeNet(ARCHITECTURES[name], 5, auxiliary=True) for name in ARCHITECTURES}
    nets["average"] = GoogLeNet(ARCHITECTURES["plain"], 5, auxiliary=True)
    return {name: net.state_dict() for name, net in nets.items()}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def holds(path: Path, state: State, **options: Any) -> tuple[str, ...]:
    """Loads a file, compares the classifier and a convolution, and returns the notes."""
    loaded = load_weights(path, **options)
    for name in ("fc.weight", next(name for name in state if name.startswith("inception4b.") and "weight" in name)):
        torch.testing.assert_close(loaded.model.state_dict()[name], state[name].float(), rtol=0, atol=0)
    return loaded.notes


@pytest.mark.parametrize(
    ("name", "prefix", "suffix"),
    [
        ("plain", "", "pth"),
        ("plain", "module.", "safetensors"),
        ("bvlc", "model.", "pth"),
        ("torchvision", "net.backbone.", "safetensors"),
        ("plain", "_orig_mod.module.", "pth"),
        ("bvlc", "model._orig_mod.net.", "safetensors"),
    ],
)
def test_prefixes_in_any_nesting(name: str, prefix: str, suffix: str, states: dict[str, State], tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    state = under(prefix, states[name])
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert load_weights(path).name == name
    holds(path, states[name])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model_state_dict": under("module.", s), "optimizer": {"state": {0: {"avg": s["fc.bias"]}}}},
        lambda s: {"net": s, "acc": 91.2},
        lambda s: {"model": {"state_dict": under("net.", s)}},
        lambda s: {"n_averaged": torch.tensor(4), **under("module.", s)},
        lambda s: {"state_dict": {**under("model.", s), "criterion.weight": torch.ones(5)}},
        lambda s: {name.replace("inception4b.", "inception4b._orig_mod."): value for name, value in s.items()},
        lambda s: {name.replace("inception4b.", "inception4b.module."): value for name, value in s.items()},
        lambda s: {"state_dict": s, "best": np.float64(0.5), "curve": np.arange(3.0), "steps": np.int64(7)},
        lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, out=pathlib.Path("a/b"), extra=[1, None])},
        lambda s: {"model": s, "cfg": types.SimpleNamespace(a=1), "seen": collections.defaultdict(int, {"a": 1})},
    ],
)  # fmt: skip
def test_wrappers(wrap: Callable[[State], Any], states: dict[str, State], tmp_path: Path) -> None:
    torch.save(wrap(states["plain"]), tmp_path / "w.pth")
    holds(tmp_path / "w.pth", states["plain"])


def test_what_is_outside_the_prefix_is_reported(states: dict[str, State], tmp_path: Path) -> None:
    torch.save({**under("net.", states["plain"]), "loss.weight": torch.ones(5)}, tmp_path / "w.pth")
    assert "1 tensor outside 'net.' left out: loss.weight" in holds(tmp_path / "w.pth", states["plain"])


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda s, a: {"state_dict": s, "state_dict_ema": a}, "state_dict"),
        (lambda s, a: {"model": s, "model_ema": {"n_averaged": torch.tensor(2), **under("module.", a)}}, "model"),
        (lambda s, a: {"ema": {"module": a, "decay": 0.99}, "net": s}, "net"),
        (lambda s, a: {**under("model.", s), **under("ema.module.", a)}, "model"),
    ],
)
def test_the_moving_average_is_taken_and_said(
    wrap: Callable[[State, State], Any], key: str, states: dict[str, State], tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(wrap(states["plain"], states["average"]), path)
    notes = holds(path, states["average"])
    assert any("moving average (EMA)" in note and f"--weights-key {key} " in note for note in notes), notes
    holds(path, states["plain"], key=key)
    with pytest.raises(BadWeightsError, match=r"no weights under 'best'"):
        load_weights(path, key="best")


def test_an_average_in_a_flat_safetensors_file(states: dict[str, State], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({**states["plain"], **under("ema.", states["average"])}, path)
    assert any("EMA" in note for note in holds(path, states["average"]))


def test_two_equal_copies_are_not_guessed_between(states: dict[str, State], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({**under("student.", states["plain"]), **under("teacher.", states["average"])}, path)
    with pytest.raises(BadWeightsError, match="2 times: student, teacher") as caught:
        load_weights(path)
    assert "--weights-key" in (caught.value.remedy or "")
    holds(path, states["average"], key="teacher")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_converted_and_said(dtype: torch.dtype, states: dict[str, State], tmp_path: Path) -> None:
    state = {name: tensor.to(dtype) for name, tensor in states["plain"].items()}
    save_file(state, tmp_path / "w.safetensors")
    notes = holds(tmp_path / "w.safetensors", state)
    assert f"weights are stored as {str(dtype)[6:]} and were converted to float32" in notes


def write_shards(folder: Path, state: State, count: int = 3) -> Path:
    names = list(state)
    places = {name: f"model-{index % count + 1:05d}-of-{count:05d}.safetensors" for index, name in enumerate(names)}
    for shard in set(places.values()):
        save_file({name: state[name] for name in names if places[name] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("given", ["index", "shard", "folder"])
def test_shards(given: str, states: dict[str, State], tmp_path: Path) -> None:
    index = write_shards(tmp_path, states["plain"])
    places = {"index": index, "shard": tmp_path / "model-00002-of-00003.safetensors", "folder": tmp_path}
    holds(places[given], states["plain"])
    hashes = {load_weights(place).source_sha256 for place in places.values()}
    first = next(iter(states["plain"]))
    save_file({first: states["plain"][first]}, tmp_path / "model-00001-of-00003.safetensors")
    assert len(hashes) == 1
    with pytest.raises(BadWeightsError, match=r"index\.json: lists .*, which is in no shard"):
        load_weights(index)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: (i.parent / "model-00003-of-00003.safetensors").unlink(), "lists model-00003-of-00003.safetensors"),
        (lambda i: i.write_text("{"), "not a JSON index"),
        (lambda i: i.write_text("[" * 100_000), "not a JSON index"),
        (lambda i: i.write_text('{"weight_map": {"a": "../../etc/passwd"}}'), "not the name of a file beside it"),
        (lambda i: i.write_text('{"weight_map": {"a": 5}}'), "not the name of a file beside it"),
        (lambda i: i.write_text('{"weight_map": []}'), "no weight_map"),
    ],
)
def test_damaged_shards(change: Callable[[Path], object], words: str, states: dict[str, State], tmp_path: Path) -> None:
    index = write_shards(tmp_path, states["plain"])
    change(index)
    with pytest.raises(BadWeightsError, match=words):
        load_weights(index)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["beside", "inside", "in a namespace"])
def test_a_payload_beside_good_weights_is_never_run(place: str, states: dict[str, State], tmp_path: Path) -> None:
    evil = Payload(tmp_path / "evidence")
    content: dict[str, Any] = {
        "beside": {"state_dict": states["plain"], "evil": evil},
        "inside": {"state_dict": {**states["plain"], "evil": evil}},
        "in a namespace": {"state_dict": states["plain"], "args": argparse.Namespace(evil=evil)},
    }[place]
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadWeightsError, match=rf"refused: it contains {os.mkdir.__module__}\.mkdir"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "evidence").exists()


def test_settings_of_a_library_are_not_imported(
    states: dict[str, State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class of the settings runs code when it is rebuilt; the file loads, and the code is not run."""
    ran: list[str] = []

    class CfgNode(dict):  # type: ignore[type-arg]
        def __setstate__(self, state: object) -> None:
            ran.append("run")

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    config = CfgNode(lr=1)
    config.frozen = True  # type: ignore[attr-defined]
    torch.save({"model": states["plain"], "cfg": config}, tmp_path / "w.pth")
    holds(tmp_path / "w.pth", states["plain"])
    assert not ran


def test_a_whole_pickled_model_is_refused_with_the_lines_that_save_it(tmp_path: Path) -> None:
    torch.save(GoogLeNet(ARCHITECTURES["plain"], 5, width=0.125), tmp_path / "whole.pt")
    with pytest.raises(
        BadWeightsError, match=r"whole pickled model \(googlenet_deploy\.model\.googlenet\.GoogLeNet\)"
    ) as caught:
        load_weights(tmp_path / "whole.pt")
    assert 'torch.load("whole.pt", weights_only=False)' in (caught.value.remedy or "")
    assert "torch.save(model.state_dict()" in (caught.value.remedy or "")


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "w.pt"))
    with pytest.raises(BadWeightsError, match="TorchScript archive"):
        load_weights(tmp_path / "w.pt")


def test_another_network_is_told_the_nearest_architecture(tmp_path: Path) -> None:
    state = {"backbone.layer1.conv.weight": torch.ones(4, 3, 3, 3), "backbone.head.weight": torch.ones(7, 4)}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(BadWeightsError) as caught:
        load_weights(tmp_path / "w.pth")
    for words in ("backbone.layer1.conv.weight", "nearest architecture is", "lacks", "has 7 classes"):
        assert words in caught.value.message
    assert "--module" in (caught.value.remedy or "")


def test_what_a_nearly_fitting_file_lacks_and_has(states: dict[str, State], tmp_path: Path) -> None:
    state = under("module.", states["plain"])
    for name in ("conv2.bias", "inception3a.layer1.weight", "inception5b.layer4.1.bias", "conv3.bias"):
        del state[f"module.{name}"]
    state["module.head.weight"] = torch.ones(2, 2)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BadWeightsError) as caught:
        load_weights(tmp_path / "w.pth")
    for words in (
        "lacks 4 tensors conv2.bias",
        ", ...",
        "unknown tensor head.weight",
        "plain",
        "5 classes",
        "'module.'",
    ):
        assert words in caught.value.message


@pytest.mark.parametrize("content", [[1], 5, {}, {"epoch": 1}, {"a": {"b": {}}}, {"scores": torch.ones(3)}])
def test_files_without_weights(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadWeightsError, match="does not contain a state dict"):
        load_weights(tmp_path / "w.pth")


def test_an_average_that_is_no_state_dict_is_reported(states: dict[str, State], tmp_path: Path) -> None:
    torch.save({"model": states["plain"], "ema": {"decay": 0.9, "shadow_params": [torch.ones(2)]}}, tmp_path / "w.pth")
    assert any("'ema' in the file is not a state dict" in note for note in holds(tmp_path / "w.pth", states["plain"]))


def test_content_that_contains_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {"w": torch.ones(2, 2)}}
    content["self"] = content
    torch.save(content, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth")
    assert choose_state_dict(found, None)[0].key == "state_dict"
