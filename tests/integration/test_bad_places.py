"""Places that cannot be written: a full disk, a read-only mount, another user's folder; two commands with one output.

Each command ends with exit status 1 and one line that names the output, and leaves neither a part of it nor a temporary
file behind; what was there before is still whole.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

OLD = "what was there before\n"
COMMANDS = {
    "infer --csv": ("infer", "MODEL", "IMAGES", "--csv", "OUT"),
    "infer --annotate": ("infer", "MODEL", "IMAGES/red.png", "--annotate", "OUT.png"),
    "inspect --json": ("inspect", "MODEL", "--json", "OUT"),
    "estimate --json": ("estimate", "MODEL", "--target", "orin-nano", "--json", "OUT"),
    "calibrate": ("calibrate", "MODEL", "--images", "IMAGES", "--output", "OUT"),
}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Noise, since calibration refuses images of one colour."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate(("red", "green", "blue")):
        pixels = np.random.default_rng(index).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def words(name: str, model: Path, images: Path, out: Path) -> list[str]:
    places = {"MODEL": str(model), "IMAGES": str(images), "IMAGES/red.png": str(images / "red.png"), "OUT": str(out)}
    places["OUT.png"] = str(out.with_suffix(".png"))
    return [sys.executable, "-m", "googlenet_deploy", *(places.get(word, word) for word in COMMANDS[name])]


def run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload, no-any-return]


def check_refused(done: subprocess.CompletedProcess[str], out: Path, why: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1, said
    assert out.stem in errors[0]
    assert why in errors[0]


def in_a_namespace(script: str, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a shell script with mounts of its own: $1 is the folder, $@ after it the command."""
    if shutil.which("unshare") is None or run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no mounts of our own here")
    return run(["unshare", "-rm", "sh", "-c", script, "sh", str(folder), *command])


FULL = (
    'mount -t tmpfs -o size=4k tmpfs "$1" || exit 9; head -c 4096 /dev/zero > "$1/x"; '
    'd="$1"; shift; "$@"; s=$?; ls -A "$d"; exit $s'
)
READ_ONLY = (
    'mount -t tmpfs tmpfs "$1" || exit 9; echo "what was there before" > "$1/out"; mount -o remount,ro "$1"; '
    'd="$1"; shift; "$@"; s=$?; ls -A "$d"; cat "$d/out"; exit $s'
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(colour_model: Path, photographs: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    out = folder / "out"
    done = in_a_namespace(FULL, words(name, colour_model, photographs, out), folder)
    check_refused(done, out, "no space left on device")
    assert done.stdout.splitlines()[-1] == "x"  # nothing beside what filled it


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_mount(colour_model: Path, photographs: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir()
    out = folder / "out"
    done = in_a_namespace(READ_ONLY, words(name, colour_model, photographs, out), folder)
    check_refused(done, out, "read-only file system")
    assert done.stdout.splitlines()[-2:] == ["out", OLD.strip()]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unprivileged_user(colour_model: Path, photographs: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "out").write_text(OLD)
    folder.chmod(0o500)
    command = words(name, colour_model, photographs, folder / "out")
    if os.geteuid() == 0:  # root writes everywhere, unless it has no capabilities
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot lay its rights down here")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = run(command)
    check_refused(done, folder / "out", "permission denied")
    assert (folder / "out").read_text() == OLD
    assert [path.name for path in folder.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["infer --csv", "calibrate", "inspect --json"])
def test_a_file_that_may_not_grow(colour_model: Path, photographs: Path, tmp_path: Path, name: str) -> None:
    """A limit of 100 bytes for every file, as quotas set it: the output fails while it is written."""
    out = tmp_path / "out" / "out"
    out.parent.mkdir()
    out.write_text(OLD)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(words(name, colour_model, photographs, out), preexec_fn=limit, env=environment)
    check_refused(done, out, "file too large")
    assert out.read_text() == OLD
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_two_commands_with_one_output(colour_model: Path, photographs: Path, tmp_path: Path) -> None:
    """The file is one of the two answers, whole, whoever comes last."""
    out = tmp_path / "out" / "answers.json"
    commands = [
        [sys.executable, "-m", "googlenet_deploy", "infer", str(colour_model), *images, "--json", str(out)]
        for images in ([str(photographs)], [str(photographs / "red.png")] * 200)
    ]
    for _ in range(3):
        running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
        assert [process.wait(120) for process in running] == [0, 0]
        for process in running:
            assert process.stderr is not None
            process.stderr.close()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(rows) in (3, 200)
        assert all(row["classes"] for row in rows)
        assert [path.name for path in out.parent.iterdir()] == ["answers.json"]
