"""The demo's commands exist as it types them; the demo itself is `make demo`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def demo(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    specification = importlib.util.spec_from_file_location("digits_demo", repository / "examples" / "digits_demo.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "digits_demo", module)
    specification.loader.exec_module(module)
    return module


def test_every_command_parses(demo: Any, tmp_path: Path) -> None:
    paths = demo.Paths(tmp_path)
    for digit in "0123456789":
        (paths.held_out / digit).mkdir(parents=True)
        (paths.held_out / digit / "0.png").write_bytes(b"")
    steps = demo.steps(paths, 3, 90.0)
    for step in steps:
        command = import_module(f"googlenet_deploy.cli.{step.arguments[0]}")
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        parser.parse_args(step.arguments[1:])
    by_command = {step.arguments[0]: step for step in steps}
    assert by_command["build"].needs == "tensorrt_rtx"
    quantized = by_command["quantize"].arguments[by_command["quantize"].arguments.index("--output") + 1]
    measured = [step.arguments for step in steps if step.arguments[0] == "benchmark"]
    assert [arguments[1] for arguments in measured] == [paths.file("digits.onnx"), quantized, "--compare"]
    files = [arguments[arguments.index("--json") + 1] for arguments in measured[:2]]
    assert list(measured[2][2:]) == files
    assert steps[-1].arguments[0] == "deploy"


def test_what_a_machine_cannot_do_is_left_out_in_a_sentence(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    demo.leave_out(demo.Step("Build", "An engine.", ("build",), needs="tensorrt_rtx"))
    printed = capsys.readouterr().out
    assert "Left out: the package tensorrt_rtx is not installed" in printed
