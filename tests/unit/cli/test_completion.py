"""The completion scripts, in real shells."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from googlenet_deploy.cli.main import COMMANDS, main

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def bash_script() -> str:
    from googlenet_deploy.cli.doctor import completion_script

    return completion_script("bash")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["dep"], {"deploy"}),
        (["export", "--frame-"], {"--frame-input", "--frame-format"}),
        (["build", "--typing", "st"], {"strong"}),
        (["infer", "--backend", "onnx"], {"onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"}),
    ],
)
def test_bash_offers(bash_script: str, words: list[str], offered: set[str]) -> None:
    line = " ".join(["googlenet-deploy", *words])
    program = f"""{bash_script}
COMP_WORDS=({line}); COMP_CWORD={len(words)}
_shtab_googlenet_deploy
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert set(found.stdout.split()) == offered


def test_zsh_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef googlenet-deploy")
    assert all(f'"{name}:' in script or f"{name})" in script for name in COMMANDS)


def test_it_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--completion", "bash", "--require", "build"]) == 2
    assert "leave the other options out" in capsys.readouterr().err


def test_without_shtab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["doctor", "--completion", "bash"]) == 1
    assert "googlenet-deploy[completion]" in capsys.readouterr().err
