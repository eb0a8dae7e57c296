"""Interpreters of other versions, and small environments for them that are made once and kept outside the checkout."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def cache_folder(name: str) -> Path:
    """A folder for what is worth keeping between test runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "googlenet-deploy" / name


def find_python(version: str) -> str:
    """An interpreter of that version: this one, one on the path, or pyenv's; skips the test if there is none."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pyenv = sorted((root / "versions").glob(f"{version}.*/bin/python{version}"))
    for candidate in [shutil.which(f"python{version}"), *map(str, pyenv)]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} here")


def environment(version: str, packages: tuple[str, ...]) -> str:
    """The interpreter of an environment with these packages and nothing else; skips if pip cannot fetch them."""
    folder = cache_folder("environments") / f"{version}-{'-'.join(packages)}"
    python, done = folder / "bin" / "python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side share one environment
        if not done.exists() or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            _make(folder, find_python(version), packages)
            done.touch()
    return str(python)


def _make(folder: Path, python: str, packages: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    steps = (
        [python, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *packages],
    )
    for step in steps:
        result = subprocess.run(step, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            why = (result.stderr or result.stdout).strip().splitlines()[-1:]
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"no environment for Python {python}: {why}")
