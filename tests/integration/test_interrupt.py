"""Ctrl-C, as a real signal to a real process: the conventional status, one line, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import torch
from PIL import Image

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from googlenet_deploy.cli.main import main
sys.exit(main())
"""


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own that reacts to SIGINT whatever this one does."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(stream: IO[str] | None, words: str) -> None:
    assert stream is not None
    for line in stream:
        if words in line:
            return
    pytest.fail(f"the process ended without saying {words!r}")


def interrupt(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode in (130, -signal.SIGINT)  # Python may end itself by the signal, as shells expect
    assert output == ""
    assert errors.splitlines()[-1].endswith((": interrupted", "those of the images until then"))
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_infer_while_it_waits_for_standard_input(colour_model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "answers.jsonl"
    with started("infer", colour_model, "-", "--json", lines) as process:
        assert process.stdin is not None
        # More than a pipe holds: the last write returns only after the process has begun to read.
        process.stdin.write("x.png\n" * 100_000)
        process.stdin.flush()
        interrupt(process)
    assert list(tmp_path.iterdir()) == []


def test_infer_in_the_middle(colour_model: Path, tmp_path: Path) -> None:
    image, table = tmp_path / "image.png", tmp_path / "answers.csv"
    Image.new("RGB", (300, 300)).save(image)
    table.write_text("old", encoding="utf-8")
    with started("infer", colour_model, "-", "--csv", table, "--interpolation", "nearest") as process:
        assert process.stdin is not None
        process.stdin.write(f"{image}\n" * 200_000)
        process.stdin.close()
        process.stdin = None
        wait_for(process.stderr, "note: interpolation is nearest")  # the last line ahead of the work
        interrupt(process)
    content = table.read_text(encoding="utf-8")
    assert content == "old" or (content.startswith("image,rank,") and content.endswith("\n"))  # none, or whole answers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "image.png"]


@pytest.mark.slow
def test_export_in_the_middle(tmp_path: Path) -> None:
    model = GoogLeNet(get_architecture("bvlc"), 4, width=0.125).eval()
    weights, output = tmp_path / "net.safetensors", tmp_path / "net.onnx"
    torch.manual_seed(0)
    save_checkpoint(weights, Checkpoint(model, model.architecture, Preprocessing(resize=64, crop=(64, 64))))
    with started("export", "--weights", weights, "--output", output) as process:
        wait_for(process.stderr, "recording the graph")
        interrupt(process)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
