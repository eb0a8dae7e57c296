"""googlenet-device.pyz, run by real Pythons that have NumPy, Pillow and ONNX Runtime and nothing of this toolkit."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pythons import environment, find_python

from googlenet_deploy.cli.main import COMMANDS, main
from googlenet_deploy.device.commands import DEVICE_COMMANDS
from googlenet_deploy.packaging.device_zipapp import device_zipapp

VERSIONS = ("3.8", "3.10", "3.12")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "googlenet-device.pyz"
    assert main(["bundle", "--device-only", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter with what a device has."""
    find_python(request.param)
    return environment(request.param, ("numpy", "pillow", "onnxruntime"))


@pytest.fixture
def run(zipapp: Path, python: str, tmp_path: Path) -> Run:
    """Runs the archive away from this checkout; `without` hides a package."""

    def start(*arguments: object, without: str | None = None) -> subprocess.CompletedProcess[str]:
        hiding = tmp_path / "hidden"
        hiding.mkdir(exist_ok=True)
        if without is not None:
            text = f"raise ModuleNotFoundError({f'No module named {without!r}'!r}, name={without!r})\n"
            (hiding / f"{without}.py").write_text(text)
        return subprocess.run(
            [python, "-W", "error", str(zipapp), *map(str, arguments)],
            env={**PLAIN, "PYTHONPATH": str(hiding)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_it_classifies_an_image_with_onnx_runtime(run: Run, colour_model: Path, colour_images: Path) -> None:
    result = run("infer", colour_model, colour_images, "--json", "-", "--backend", "onnxruntime")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {Path(row["image"]).stem: row["classes"][0]["name"] for row in rows} == {
        "red": "red",
        "green": "green",
        "blue": "blue",
    }
    assert "Traceback" not in result.stderr


def test_python_imports_the_classifier_from_it(
    zipapp: Path, python: str, colour_model: Path, colour_images: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(zipapp)!r})\n"
        "from googlenet_deploy import Classifier\n"
        f"with Classifier({str(colour_model)!r}, backend='onnxruntime') as classify:\n"
        f"    print(classify({str(colour_images / 'green.png')!r}).best.name)\n"
        f"    print([answer.best.name for answer in classify.stream({str(colour_images)!r})])\n"
        "import googlenet_deploy as gd\n"
        "print(gd.benchmark.__name__, gd.build.__name__, gd.serve.__name__, gd.tune.__name__, hasattr(gd, 'export'))\n"
    )
    result = subprocess.run(
        [python, "-W", "error", "-c", code], env=PLAIN, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout == "green\n['blue', 'green', 'red']\nbenchmark build serve tune False\n", result.stderr


def test_it_serves_until_it_is_told_to_stop(
    zipapp: Path, python: str, colour_model: Path, colour_images: Path, tmp_path: Path
) -> None:
    words = ["infer", colour_model, "--serve", "0", "--power", "none", "--backend", "onnxruntime"]
    program = [python, "-W", "error", str(zipapp), *map(str, words)]
    with subprocess.Popen(program, env=PLAIN, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            assert line.startswith("note: serving on http://127.0.0.1:"), line
            address = line.partition("http://")[2].partition("/")[0]
            image = (colour_images / "blue.png").read_bytes()
            with urllib.request.urlopen(f"http://{address}/classify", image, timeout=10) as answer:
                assert json.load(answer)["classes"][0]["name"] == "blue"
            with urllib.request.urlopen(f"http://{address}/stream", timeout=10) as answer:
                assert b"<!doctype html>" in answer.read()
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
            assert server.wait(15) == 0
        finally:
            server.kill()
    assert rest.endswith("1 image, stopped by a signal\n")
    assert "Traceback" not in rest


def test_it_tunes_and_runs_the_choice(run: Run, colour_model: Path, colour_images: Path, tmp_path: Path) -> None:
    brief = ("--first-seconds", 0.02, "--seconds", 0.05, "--rounds", 3, "--warm-up", 0.1, "--quiet")
    result = run("tune", colour_model, "--images", colour_images, "--threads", 1, "--batch", "1,2", *brief)
    assert result.returncode == 0, result.stderr
    assert "chosen: " in result.stdout
    tuned = json.loads((tmp_path / "tuned.json").read_text())
    assert {each["setting"]["batch"] for each in tuned["results"]} == {1, 2}
    assert {each["agreement"] for each in tuned["results"]} == {100.0}
    result = run("infer", colour_model, colour_images, "--tuned", "tuned.json", "--csv", "answers.csv")
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "answers.csv").read_text().splitlines()) > 3


def test_it_measures(run: Run, colour_model: Path, tmp_path: Path) -> None:
    brief = ("--rounds", 2, "--seconds", 0, "--min-runs", 3, "--warm-up", 0, "--power", "none", "--quiet")
    result = run("benchmark", colour_model, *brief, "--json", "b.json", "--backend", "onnxruntime")
    assert result.returncode == 0, result.stderr
    assert "power: not measured: it was switched off" in result.stdout
    assert json.loads((tmp_path / "b.json").read_text())["configurations"][0]["milliseconds"]["end_to_end"]["runs"] == 6
    result = run("benchmark", "--compare", "b.json", "b.json")
    assert result.returncode == 0, result.stderr
    assert "end_to_end p50, ms" in result.stdout


@pytest.mark.slow
def test_published_weights_know_a_tench_there_too(run: Run, bvlc_onnx: Path, sample_images: Path) -> None:
    result = run("infer", bvlc_onnx, sample_images / "n01440764.jpg", "--top-k", 1)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].endswith("tench, Tinca tinca (0)")


def test_it_says_that_tensorrt_is_absent(run: Run) -> None:
    result = run("doctor")
    assert result.returncode == 0, result.stderr
    assert "- TensorRT " in result.stdout
    assert "TensorRT cannot be loaded: No module named 'tensorrt'" in result.stdout
    assert "JetPack's own package (apt install python3-libnvinfer)" in result.stdout
    assert "pip install tensorrt-rtx-cu13" in result.stdout  # no extra: the toolkit itself is not installed here
    assert "googlenet-deploy[" not in result.stdout
    assert run("doctor", "--require", "run").returncode == 3


def test_numpy_and_pillow_alone_start_every_command(run: Run, colour_model: Path, colour_images: Path) -> None:
    for command in DEVICE_COMMANDS:
        if command in COMMANDS:
            result = run(command, "--help", without="onnxruntime")
            assert result.returncode == 0, result.stderr
            assert command in result.stdout
    result = run("infer", colour_model, colour_images, without="onnxruntime")
    assert result.returncode == 1
    assert "'onnxruntime', which is not installed\n  pip install onnxruntime" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_plans_a_build_for_a_module(run: Run, colour_model: Path) -> None:
    """Reads the packaged profiles of the modules out of the archive."""
    result = run("build", colour_model, "--target", "orin-nano", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "nothing was built (--dry-run)" in result.stdout
    result = run("build", colour_model, "--target", "toaster", "--dry-run")
    assert result.returncode == 2
    assert "choose a module (agx-orin, agx-orin-32gb, agx-xavier" in result.stderr


def test_imagenets_classes_come_out_of_the_archive(run: Run, colour_model: Path, colour_images: Path) -> None:
    result = run("infer", colour_model, colour_images, "--class-names", "imagenet")
    assert result.returncode == 1
    assert "has 3 classes, but there are 1000 class names" in result.stderr


@pytest.mark.parametrize("engine", ["none.engine", "rubbish.engine"])
def test_an_engine_without_tensorrt_is_one_clear_error(run: Run, tmp_path: Path, engine: str) -> None:
    (tmp_path / "rubbish.engine").write_bytes(b"rubbish")
    result = run("infer", engine, "photo.jpg")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_commands_that_do_not_travel_are_refused(run: Run) -> None:
    result = run("export", "--help")
    assert result.returncode == 2
    assert "invalid choice: 'export'" in result.stderr
    assert "googlenet-device.pyz" in run("--version").stdout


@pytest.mark.parametrize("version", ["3.6", "3.7"])
def test_older_pythons_are_told_what_is_needed(zipapp: Path, version: str) -> None:
    result = subprocess.run([find_python(version), str(zipapp)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == f"googlenet-device.pyz needs Python 3.8 or later; this is {version}\n"


def test_the_same_sources_give_the_same_bytes(zipapp: Path) -> None:
    assert zipapp.read_bytes() == device_zipapp() == device_zipapp()
    assert zipapp.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(zipapp, os.X_OK)


def test_it_holds_the_device_part_and_no_framework(zipapp: Path) -> None:
    with zipfile.ZipFile(zipapp) as archive:
        names = archive.namelist()
        sources = {name: archive.read(name) for name in names if name.endswith(".py")}
    assert len(names) == len(set(names))
    folders = {"/".join(name.split("/")[:2]) for name in names if name.startswith("googlenet_deploy/")}
    allowed = {"googlenet_deploy/device", "googlenet_deploy/cli", "googlenet_deploy/errors.py"}
    assert folders == {*allowed, "googlenet_deploy/__init__.py"}
    present = {name[: -len(".py")].replace("/", ".").replace(".__init__", "") for name in sources}
    for name, source in sources.items():
        tree = ast.parse(source)
        if name == "googlenet_deploy/__init__.py":  # it names for type checkers what does not travel
            tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] not in ("torch", "onnx", "safetensors"), name
                assert not module.startswith("googlenet_deploy.") or module in present, f"{name} imports {module}"
