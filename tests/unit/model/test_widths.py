"""Widths as data: what a checkpoint says of a pruned network, and what it is refused for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.widths import parse_widths, scaled_widths

NARROW = {"conv2": 5, "inception3a.reduce3x3": 7, "inception4d.pool_proj": 3, "inception5b.conv1x1": 9}


def narrow(name: str) -> GoogLeNet:
    return GoogLeNet(ARCHITECTURES[name], 3, width=0.125, widths=scaled_widths(0.125).with_channels(NARROW))


def test_the_papers_own_numbers() -> None:
    widths = scaled_widths(1.0)
    assert len(widths.channels) == 57
    assert (widths.channels["conv3"], widths.channels["inception4e.conv3x3"]) == (192, 320)
    inputs = widths.input_channels(3)
    # Table 1: 3b's output is 28x28x480, 4d's 14x14x528, 5b's 7x7x1024.
    assert (inputs["inception4a.conv1x1"], inputs["inception4e.pool_proj"], inputs["fc"]) == (480, 528, 1024)
    assert (inputs["conv1"], inputs["inception3a.conv5x5"]) == (3, 16)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_has_the_widths_that_it_was_given(name: str) -> None:
    model = narrow(name)
    layers = {key: layer.weight.shape[0] for key, layer in model.convolutions().items()}
    assert layers == {**scaled_widths(0.125).channels, **NARROW}
    inputs = {key: layer.weight.shape[1] for key, layer in model.convolutions().items()}
    assert {**inputs, "fc": model.fc.in_features} == model.widths.input_channels(3)
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_checkpoint_carries_the_widths(name: str, tmp_path: Path) -> None:
    model, path = narrow(name).eval(), tmp_path / "narrow.safetensors"
    save_checkpoint(path, Checkpoint(model, model.architecture, BVLC, class_names=("a", "b", "c")))
    loaded = load_checkpoint(path).model
    assert loaded.widths == model.widths
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), model(x))


def test_an_unpruned_checkpoint_says_nothing_of_them(tmp_path: Path) -> None:
    model, path = GoogLeNet(ARCHITECTURES["bvlc"], 3, width=0.125), tmp_path / "w.safetensors"
    save_checkpoint(path, Checkpoint(model, model.architecture, BVLC))
    with safe_open(path, "pt") as file:
        assert "widths" not in file.metadata()


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(scaled_widths(0.125).to_json()), **values})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(conv1=0), "a width of conv1 is 0"),
        (changed(conv1=10**9), "a width of conv1 is 1000000000"),
        (changed(conv2=True), "a width of conv2 is True"),
        (changed(conv3="12"), "a width of conv3 is '12'"),
        (changed(inception4a=[8] * 5), "widths of inception4a are not 6 numbers"),
        (changed(inception4a=7), "widths of inception4a are not 6 numbers"),
        (changed(auxiliary=[8, 10**7]), "a width of auxiliary is 10000000"),
        (changed(inception6a=[8] * 6), "widths do not name"),
        ("[" * 100_000, "nested too deeply"),
        ("null", "widths do not name"),
        ("{", "damaged"),
        ("9" * 9000, "damaged"),
    ],
    ids=lambda text: text[:20],
)
def test_damaged_widths_are_refused_by_file(text: str, message: str, tmp_path: Path) -> None:
    model, path = narrow("plain"), tmp_path / "w.safetensors"
    save_checkpoint(path, Checkpoint(model, model.architecture, BVLC))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, "widths": text})
    with pytest.raises(BadWeightsError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in error.value.message


def test_widths_of_another_network_do_not_fit_the_tensors(tmp_path: Path) -> None:
    model, path = narrow("torchvision"), tmp_path / "w.safetensors"
    save_checkpoint(path, Checkpoint(model, model.architecture, BVLC))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, "widths": scaled_widths(0.25).to_json()})
    with pytest.raises(BadWeightsError, match="wrong shape"):
        load_checkpoint(path)


def test_text_of_equal_widths_is_equal_and_reads_back() -> None:
    widths = scaled_widths(0.5).with_channels(NARROW)
    assert parse_widths(widths.to_json()) == widths
    assert parse_widths(widths.to_json()).to_json() == widths.to_json()
