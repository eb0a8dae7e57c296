"""The device part with the Python, NumPy and Pillow that Ubuntu installs under JetPack 5, 6 and 7."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from pythons import environment, find_python

# What `apt install python3-numpy python3-pil` installs on Ubuntu 20.04, 22.04 and 24.04.
UBUNTU = {
    "3.8": ("numpy==1.17.4", "pillow==7.0.0"),
    "3.10": ("numpy==1.21.5", "pillow==9.0.1"),
    "3.12": ("numpy==1.26.4", "pillow==10.2.0"),
}
OPTIONAL = ("cv2", "onnxruntime", "openvino", "pycuda", "cuda", "tensorrt")
IMPORT_ALL = f"""
import sys, zipfile
from importlib import import_module

sys.path.insert(0, "googlenet-device.pyz")
from googlenet_deploy.errors import MissingExtraError

count = 0
for name in zipfile.ZipFile("googlenet-device.pyz").namelist():
    if name.startswith("googlenet_deploy/device/") and name.endswith(".py") and "__main__" not in name:
        try:
            import_module(name[:-3].replace("/__init__", "").replace("/", "."))
        except MissingExtraError:
            continue
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] not in {OPTIONAL!r}:
                raise
        count += 1
print(count)
"""


@pytest.fixture(scope="module", params=UBUNTU)
def python(request: pytest.FixtureRequest) -> str:
    find_python(request.param)
    return environment(request.param, UBUNTU[request.param])


@pytest.fixture
def bundle(jetson_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(jetson_folder, tmp_path / "bundle"))


def run(python: str, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the unpacked bundle, where `python3` is this interpreter and nothing else is on its path."""
    path = f"{Path(python).parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return subprocess.run(
        words, cwd=bundle, env={"PATH": path, "HOME": str(bundle)}, capture_output=True, text=True, check=False
    )


def container_commands(repository: Path) -> list[list[str]]:
    """The commands that docs/containers.md runs in a container without a GPU."""
    text = (repository / "docs/containers.md").read_text(encoding="utf-8")
    found = re.search(r"## In the container\n+```\n(.*?)```", text, re.DOTALL)
    assert found
    return [shlex.split(line) for line in found[1].splitlines()]


def test_every_module_imports(python: str, bundle: Path) -> None:
    result = run(python, bundle, "python3", "-W", "error", "-c", IMPORT_ALL)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 100


def test_the_commands_of_the_container_page(python: str, bundle: Path, repository: Path) -> None:
    doctor, self_test = (run(python, bundle, *words) for words in container_commands(repository))
    assert doctor.returncode == 0, doctor.stderr
    assert "TensorRT cannot be loaded: No module named 'tensorrt'" in doctor.stdout
    assert self_test.returncode == 0, self_test.stdout + self_test.stderr
    assert re.search(r"^ok +files ", self_test.stdout, re.MULTILINE)
    assert re.search(r"^ok +preparing images ", self_test.stdout, re.MULTILINE)
    image = next((bundle / "golden/images").iterdir())
    image.write_bytes(image.read_bytes()[:-1])
    damaged = run(python, bundle, *container_commands(repository)[1])
    assert damaged.returncode == 1
    assert image.name in damaged.stdout + damaged.stderr
