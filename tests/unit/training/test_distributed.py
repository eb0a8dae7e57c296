"""Several processes do what one does: two of them, over gloo, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from googlenet_deploy.errors import DeviceError, GoogLeNetDeployError, UsageError
from googlenet_deploy.model.checkpoint import load_checkpoint
from googlenet_deploy.training.distributed import (
    Processes,
    check_division,
    choose_device,
    lost_process,
    started_processes,
)
from googlenet_deploy.training.options import TrainingOptions

SMALL = ("--width", "0.125", "--input-size", "32", "--batch-size", "8", "--epochs", "2", "--workers", "1")


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@dataclass
class Group:
    """Processes of one run, as torchrun would start them."""

    processes: list[subprocess.Popen[str]]

    def wait(self) -> list[tuple[int, str]]:
        """Exit status and stderr of each."""
        results = []
        for process in self.processes:
            _, err = process.communicate(timeout=300)
            results.append((process.returncode, err))
        return results


def start(count: int, *arguments: str) -> Group:
    port = free_port()
    group = []
    for rank in range(count):
        variables = {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **variables, **address}
        command = [sys.executable, "-m", "googlenet_deploy.cli.train", *arguments]
        group.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return Group(group)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; the same as `make_folder` makes, but for the whole module."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("colours") / "d"
    generator = np.random.default_rng(0)
    for name, colour in (("a", (200, 30, 30)), ("b", (30, 200, 30))):
        (root / name).mkdir(parents=True)
        for index in range(20):
            noise = generator.integers(-25, 26, (40, 40, 3))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(
                root / name / f"{index}.png"
            )
    return root


@pytest.mark.parametrize("architecture", ["bvlc", "torchvision"])
def test_two_processes_learn_what_one_learns(colours: Path, tmp_path: Path, architecture: str) -> None:
    """With augmentation, mixup, dropout and, for one of the nets, BatchNorm over both processes' images.

    Each of the two has processes of its own that read images.
    """
    losses, weights = [], []
    for count in (1, 2):
        output, log = tmp_path / f"{count}.safetensors", tmp_path / f"{count}.jsonl"
        options = ("--architecture", architecture, "--mixup", "0.2", "--augmentation", "paper", "--lr", "0.001")
        files = ("--data", str(colours), "--output", str(output), "--log", str(log))
        who = ("--worker-type", "processes" if count == 2 else "threads")
        results = start(count, *files, *SMALL, "--input-size", "64", "--batch-size", "32", *options, *who).wait()
        assert [status for status, _ in results] == [0] * count, results
        assert [err for _, err in results[1:]] == [""] * (count - 1)  # the first one speaks
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        losses.append([(line["train_loss"], line["validation_loss"]) for line in lines if line["event"] == "epoch"])
        weights.append(load_checkpoint(output.with_suffix(".last.safetensors")).model.state_dict())
    for ours, theirs in zip(*losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    for name, ours in weights[0].items():
        torch.testing.assert_close(ours, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{n}{end}" for n in (1, 2) for end in (".jsonl", ".last.safetensors", ".safetensors")
    ]


def lines_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


def test_one_process_that_is_asked_to_stop_stops_all_and_the_run_goes_on(colours: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    arguments = ("--data", str(colours), "--output", str(output), *SMALL, "--epochs", "100000")
    group = start(2, *arguments)
    lines_until(group.processes[0], "epoch 1/")
    group.processes[1].send_signal(signal.SIGTERM)
    assert [status for status, _ in group.wait()] == [0, 0]
    assert output.with_suffix(".state.safetensors").exists()
    again = start(2, *arguments, "--resume")
    lines_until(again.processes[0], "going on after")
    lines_until(again.processes[0], "(saved)")
    again.processes[0].send_signal(signal.SIGTERM)
    assert [status for status, _ in again.wait()] == [0, 0]


def test_a_process_that_dies_ends_the_others_with_clear_words(colours: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    group = start(2, "--data", str(colours), "--output", str(output), *SMALL, "--epochs", "100000")
    lines_until(group.processes[0], "epoch 2/")  # the first one is saved by then
    group.processes[1].kill()
    (status, err), (other, _) = group.wait()
    assert (status, other) == (1, -signal.SIGKILL), err
    assert "error: another process of this run has stopped" in err
    assert "start the run again with --resume" in err
    assert "Traceback" not in err
    load_checkpoint(output)


def test_alone_there_is_nothing_to_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with started_processes("cpu") as processes:
        assert processes == Processes(0, 1, torch.device("cpu"))
        assert processes.is_first
        assert processes.gather("x") == ["x"]
        assert processes.sum(torch.ones(2)).tolist() == [1.0, 1.0]


def test_damaged_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE"), started_processes("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE 0: both count processes"), started_processes("cpu"):
        pass


def test_choosing_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        choose_device("cuda")
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda", 1) == torch.device("cuda", 1)
    assert chosen == [1]
    with pytest.raises(DeviceError, match="its 2 GPUs"):
        choose_device("cuda", 2)


@pytest.mark.parametrize(
    ("options", "images", "processes", "unit"),
    [({"batch_size": 9}, 100, 2, 2), ({"accumulate": 3}, 100, 1, 3), ({"mixup": 0.2}, 7, 1, 2), ({}, 1, 2, 2)],
)
def test_a_step_that_cannot_be_divided(options: dict[str, float], images: int, processes: int, unit: int) -> None:
    with pytest.raises(UsageError, match=f"choose a multiple of {unit}"):
        check_division(TrainingOptions(**options), images, processes)  # type: ignore[arg-type]


def test_a_step_takes_the_batch_or_all_images() -> None:
    assert check_division(TrainingOptions(batch_size=8, mixup=0.2), 100, 2) == 8
    assert check_division(TrainingOptions(batch_size=8), 6, 3) == 6


def test_running_out_of_memory_is_no_lost_process() -> None:
    with pytest.raises(torch.OutOfMemoryError), lost_process():
        raise torch.OutOfMemoryError("full")
    with pytest.raises(GoogLeNetDeployError, match="another process of this run has stopped: closed"), lost_process():
        raise RuntimeError("closed\nby peer")
