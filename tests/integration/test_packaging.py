"""What is built and shipped, and what of it works with nothing but NumPy and Pillow installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import COMMANDS

SOURCES = {
    "googlenet_deploy/export": "export",
    "googlenet_deploy/calibration": "calibration",
    "googlenet_deploy": "googlenet_deploy",
}
HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "PIL", "rich", "kornia", "sklearn")


def shipped_files(repository: Path) -> set[str]:
    """Every source file under its name in the wheel."""
    found: set[str] = set()
    for package, folder in SOURCES.items():
        for pattern in ("*.py", "*.txt", "*.toml", "*.sh", "*.html", "*.css", "*.csv", "*.json", "py.typed"):
            for path in (repository / folder).rglob(pattern):
                if "__pycache__" not in path.parts:
                    found.add(f"{package}/{path.relative_to(repository / folder)}")
    return found


@pytest.fixture(scope="session")
def distributions(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist.

    Built from a copy: setuptools writes into the source folder, where test processes beside this one do the same.
    """
    folder, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("source") / "copy"
    shutil.copytree(repository, copy, symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="session")
def unpacked(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, importable."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def bare_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds NumPy and Pillow and nothing else."""
    import numpy
    import PIL

    folder = tmp_path_factory.mktemp("bare")
    for module in (numpy, PIL):
        site = Path(module.__file__).parent.parent
        for name in (module.__name__, "numpy.libs", "pillow.libs"):
            if (site / name).exists() and not (folder / name).exists():
                (folder / name).symlink_to(site / name)
    return folder


def run_bare(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs `code` with only the standard library and the folders of `path` to import from."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=path[0]
    )


def test_wheel_holds_every_module_and_nothing_else(repository: Path, distributions: Path) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == shipped_files(repository)


def test_wheel_declares_licence_extras_and_commands(distributions: Path) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        info = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
        metadata = wheel.read(info["METADATA"]).decode()
        scripts = wheel.read(info["entry_points.txt"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "LICENSE" in info
    for extra in ("export", "train", "report", "rtx", "cuda", "pycuda", "all"):
        assert f"Provides-Extra: {extra}\n" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert sorted(line.split()[1].split(">")[0] for line in required) == ["numpy", "pillow"]
    for script in ("googlenet-deploy", "export-onnx", "googlenet-infer"):
        assert f"{script} = " in scripts


def test_sdist_holds_sources_tests_and_documents(repository: Path, distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt"}
    for folder in ("googlenet_deploy", "export", "calibration", "tests"):
        expected |= {
            str(path.relative_to(repository))
            for path in (repository / folder).rglob("*.py")
            if "__pycache__" not in path.parts
            and not path.is_relative_to(repository / "googlenet_deploy/export")
            and not path.is_relative_to(repository / "googlenet_deploy/calibration")
        }
    assert expected <= names, sorted(expected - names)


IMPORT_ALL = """
import importlib, pkgutil, sys
import googlenet_deploy
from googlenet_deploy.errors import MissingExtraError
missing = {}
for module in pkgutil.walk_packages(googlenet_deploy.__path__, "googlenet_deploy."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except MissingExtraError as error:
        missing[module.name] = error.extra
for name, extra in sorted(missing.items()):
    print(name, extra)
"""


def test_all_modules_import_with_numpy_and_pillow_alone(repository: Path, unpacked: Path, bare_packages: Path) -> None:
    result = run_bare(IMPORT_ALL, unpacked, bare_packages)
    assert result.returncode == 0, result.stderr
    leaves = dict(line.split() for line in result.stdout.splitlines())
    extras = {"runtime", "export", "train", "report", "rtx", "cuda", "pycuda", "opencv", "openvino"}
    assert set(leaves.values()) <= extras
    # What every command needs to start, and a package itself, must be there without any extra.
    never_missing = ("googlenet_deploy.cli.", "googlenet_deploy.errors")
    packages = {str(path.parent) for path in unpacked.rglob("__init__.py")}
    for name, extra in leaves.items():
        assert not name.startswith(never_missing), f"{name} needs the extra {extra}"
        assert str(unpacked / name.replace(".", "/")) not in packages, f"{name} is a package and imports an extra"


HELP = """
import sys
from googlenet_deploy.cli.main import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0, end.code
imported = [name for name in {heavy!r} if name in sys.modules]
assert not imported, imported
"""


@pytest.mark.parametrize("command", ["", *COMMANDS, *(alias for c in COMMANDS.values() for alias in c.aliases)])
def test_help_needs_the_standard_library_alone(command: str, unpacked: Path) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    result = run_bare(HELP.format(arguments=arguments, heavy=HEAVY), unpacked)
    assert result.returncode == 0, result.stderr
    assert "exit status" in result.stdout
    assert not command or "googlenet-deploy" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy_where_everything_is_installed(command: str, repository: Path) -> None:
    code = HELP.format(arguments=[command, "--help"], heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=repository)
    assert result.returncode == 0, result.stderr
