"""The shell scripts of a Jetson bundle, run by sh with stand-ins for trtexec, dpkg-query and Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.packaging.jetson import JetsonRequest, write_jetson
from tests.unit.packaging.conftest import changed_byte

SCRIPTS = ("build.sh", "self-test.sh")
TOOLS = ("awk", "dirname", "mkdir", "mv", "sha256sum", "sh", "tail")

# Builds an "engine" that is a copy of the ONNX file, and answers with given scores in trtexec's JSON form
# (samples/common/sampleReporting.cpp of TensorRT).
TRTEXEC = """#!{python}
import json, sys
log = open({log!r}, "a")
log.write(json.dumps(sys.argv[1:]) + "\\n")
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
if "saveEngine" in options:
    open(options["saveEngine"], "wb").write(open(options["onnx"], "rb").read())
else:
    number = options["loadInputs"].rpartition("/")[2].partition(".")[0]
    values = json.load(open({answers!r}))[number]
    text = ", ".join("%g" % value for value in values)
    open(options["exportOutput"], "w").write(
        '[\\n  {{ "name" : "other"\\n  , "dimensions" : "1"\\n  , "values" : [ 7 ]\\n  }}\\n'
        ', {{ "name" : "logits"\\n  , "dimensions" : "1x%d"\\n  , "values" : [ %s ]\\n  }}\\n]\\n' % (len(values), text)
    )
"""


class Device:
    """A folder with a bundle, and a PATH on which only chosen programs are."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder, self.bin = folder / "bundle", folder / "bin"
        self.log, self.answers = folder / "trtexec.log", folder / "answers.json"
        shutil.copytree(bundle, self.folder)
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def install(self, version: str, *, noise: float = 0.0) -> None:
        """TensorRT's packages and trtexec, whose scores are the workstation's with some noise."""
        self.program("dpkg-query", f"#!/bin/sh\nprintf '%s' '{version}'\n")
        self.program("trtexec", TRTEXEC.format(python=sys.executable, log=str(self.log), answers=str(self.answers)))
        generator = np.random.default_rng(0)
        scores = {}
        for path in sorted((self.folder / "golden/trtexec").glob("*.txt")):
            values = np.loadtxt(path)
            error = noise * np.abs(values).mean() * generator.standard_normal(len(values))
            scores[path.stem] = (values + error).tolist()
        self.answers.write_text(json.dumps(scores))

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "LC_ALL": "C"}
        command = ["sh", str(self.folder / script), *arguments]
        shell = shutil.which("sh")
        return subprocess.run(
            command, executable=shell, env=environment, capture_output=True, text=True, check=False, cwd="/"
        )

    def commands(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def device(jetson_folder: Path, tmp_path: Path) -> Device:
    return Device(jetson_folder, tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("target", ["orin-nano", "nano", "jetpack-6.2"])
def test_scripts_are_clean(request_int8: JetsonRequest, tmp_path: Path, script: str, target: str) -> None:
    chosen = load_target(target)
    precision = "fp16" if chosen.has_int8 is False else "int8"
    write_jetson(tmp_path / "bundle", replace(request_int8, target=chosen, precision=precision, table=None))
    path = tmp_path / "bundle" / script
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    result = subprocess.run([shellcheck, "--shell=sh", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("version", ["8.5.2-1+cuda11.4", "10.3.0.30-1+cuda12.5", "8.6"])
def test_without_python_trtexec_builds_and_answers_are_compared(device: Device, version: str) -> None:
    device.install(version)
    result = device.run("build.sh")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the engine answers as the workstation did" in result.stdout
    engine = device.folder / "on-device/model.engine"
    assert engine.read_bytes() == (device.folder / "models/model.int8.onnx").read_bytes()
    build, *tests = device.commands()
    assert build[0] == "--onnx=models/model.int8.onnx"
    assert {"--int8", "--fp16", "--minShapes=input:1x3x64x64", "--maxShapes=input:16x3x64x64"} <= set(build)
    assert ("--buildOnly" in build) == version.startswith("8.5")
    assert len(tests) == 6
    assert "--loadInputs=input:golden/trtexec/0.bin" in tests[0]
    assert "--shapes=input:1x3x64x64" in tests[0]
    # It can be run again at any time, and what the device wrote does not disturb it.
    assert device.run("self-test.sh").returncode == 0


def test_an_engine_that_answers_otherwise_fails(device: Device) -> None:
    device.install("8.5.2", noise=1.0)
    result = device.run("build.sh")
    assert result.returncode == 1
    assert "does not answer as the workstation did" in result.stderr


def test_an_engine_near_enough_passes_and_its_distance_is_told(device: Device) -> None:
    device.install("8.5.2", noise=0.003)
    result = device.run("build.sh")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "dB, 20 needed" in result.stdout


@pytest.mark.parametrize("scores", [[1.0], [float("nan")] * 10])
def test_nonsense_from_the_engine_fails(device: Device, scores: list[float]) -> None:
    device.install("8.5.2")
    device.answers.write_text(json.dumps({str(number): scores for number in range(6)}))
    assert device.run("build.sh").returncode == 1


def test_a_changed_byte_stops_everything(device: Device) -> None:
    device.install("8.5.2")
    changed_byte(device.folder / "models/model.onnx")
    for script in SCRIPTS:
        result = device.run(script)
        assert result.returncode == 1
        assert "was altered" in result.stderr
    assert not device.log.exists()


def test_another_tensorrt_is_named(device: Device) -> None:
    device.install("9.1.0")
    result = device.run("build.sh")
    assert result.returncode == 1
    assert "TensorRT 9.1.0 is not among those" in result.stderr


def test_no_tensorrt_at_all_says_what_to_install(device: Device) -> None:
    result = device.run("build.sh")
    assert result.returncode == 1
    assert "apt-get install tensorrt" in result.stderr
    (device.bin / "trtexec").symlink_to("/bin/true")
    device.program("dpkg-query", "#!/bin/sh\nexit 1\n")
    assert "version is not known" in device.run("build.sh").stderr


def test_a_builder_that_fails_shows_its_log(device: Device) -> None:
    device.install("8.5.2")
    device.program("trtexec", "#!/bin/sh\necho 'out of memory'\nexit 3\n")
    result = device.run("build.sh")
    assert result.returncode == 1
    assert "out of memory" in result.stderr
    assert not (device.folder / "on-device/model.engine").exists()
    device.program("trtexec", "#!/bin/sh\n")
    assert "wrote no engine" in device.run("build.sh").stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_options_are_refused(device: Device, script: str) -> None:
    result = device.run(script, "--fast")
    assert result.returncode == 1
    assert "usage" in result.stderr


def test_nothing_to_test_yet_is_said(device: Device) -> None:
    result = device.run("self-test.sh")
    assert result.returncode == 1
    assert "build the engine" in result.stderr
    assert device.run("self-test.sh", "--files-only").returncode == 0


def test_where_python_has_tensorrt_the_zipapp_builds(device: Device) -> None:
    """A Python that "has" TensorRT: the zipapp's command line is recorded in place of its run."""
    device.install("8.5.2")
    device.program(
        "python3",
        f"""#!/bin/sh
[ "$1" = -c ] && exit 0
printf '%s\\n' "$*" >>"{device.log}"
[ "$2" = build ] && : >on-device/model.engine
exit 0
""",
    )
    assert device.run("build.sh").returncode == 0
    lines = device.log.read_text().splitlines()
    assert lines[0] == "googlenet-device.pyz selftest . --files-only"
    assert lines[1].startswith("googlenet-device.pyz build models/model.int8.onnx --batch 1,4,16 --require int8=0.90")
    assert lines[2] == "googlenet-device.pyz selftest ."
    device.log.unlink()
    assert device.run("build.sh", "--trtexec").returncode == 0
    assert "--saveEngine=on-device/new.engine" in device.log.read_text()


CANDIDATES = """#!/bin/sh
[ "$1" = -c ] && exit 0
printf '%s\\n' "$*" >>"{log}"
case "$*" in *" build "*--precision*) exit 1 ;; esac
exit 0
"""


def test_candidates_are_an_engine_of_each_precision_and_what_fails_is_said(device: Device) -> None:
    device.program("python3", CANDIDATES.format(log=device.log))
    result = device.run("build.sh", "--candidates")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = device.log.read_text().splitlines()
    rest, fp16 = "--timing-cache on-device/timing.cache", "models/model.onnx --precision fp16 --batch 1,4,16"
    assert lines == [
        "googlenet-device.pyz selftest . --files-only",
        f"googlenet-device.pyz build models/model.int8.onnx --batch 1,4,16 --output on-device/int8.engine {rest}",
        f"googlenet-device.pyz build models/model.onnx --batch 1,4,16 --output on-device/fp32.engine {rest}",
        f"googlenet-device.pyz build {fp16} --output on-device/fp16.engine {rest}",
    ]
    assert "on-device/fp16.engine is left out: it could not be built" in result.stdout
    assert "done: int8 fp32; choose among them: python3 googlenet-device.pyz tune ." in result.stdout


def test_candidates_of_which_none_can_be_built_fail(device: Device) -> None:
    device.program("python3", CANDIDATES.format(log=device.log).replace("*--precision*", "*"))
    result = device.run("build.sh", "--candidates")
    assert result.returncode == 1
    assert "not one engine could be built" in result.stderr


def test_candidates_need_python(device: Device) -> None:
    device.install("8.5.2")
    result = device.run("build.sh", "--candidates")
    assert result.returncode == 1
    assert "--candidates needs Python 3.8 or later" in result.stderr


def test_python_that_builds_but_has_no_cuda_leaves_the_test_to_trtexec(device: Device) -> None:
    """As on a fresh JetPack: TensorRT's Python package is there, PyCUDA is not."""
    device.install("8.5.2")
    device.program(
        "python3",
        """#!/bin/sh
case "$2" in
    *cuda*) exit 1 ;;
    build) : >on-device/model.engine ;;
esac
exit 0
""",
    )
    result = device.run("build.sh")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "building with googlenet-device.pyz" in result.stdout
    assert "the engine answers as the workstation did" in result.stdout
    assert len(device.commands()) == 6


def test_without_tensorrt_the_zipapp_tests_the_models(device: Device, repository: Path) -> None:
    """This very Python, which has ONNX Runtime."""
    device.program("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    result = device.run("self-test.sh")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "model.int8.onnx" in result.stdout
