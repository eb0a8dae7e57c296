"""The real Python bindings of several TensorRT versions, made importable without TensorRT's libraries; TensorRT-RTX.

Bindings come from PyPI into a cache folder of their own; stand-ins for libnvinfer and its siblings export the symbols
that the bindings name, so that they import anywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pythons import cache_folder, find_python

# 8.5.2.2's wheel holds the whole of TensorRT, so it is fetched only where it is asked for.
ASK = "GOOGLENET_DEPLOY_TENSORRT_WHEELS"
SYMBOLS = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
]
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")


@dataclass(frozen=True)
class Wheel:
    """A wheel with bindings: requirement, Python that it is for, and the module in it."""

    requirement: str
    python: str
    module: str
    large: bool = False

    @property
    def version(self) -> str:
        return self.requirement.partition("==")[2]


WHEELS = (
    Wheel("tensorrt==8.5.2.2", "3.10", "tensorrt", large=True),
    Wheel("tensorrt-bindings==8.6.1", "3.10", "tensorrt_bindings"),
    Wheel("tensorrt-cu12-bindings==10.3.0", "3.11", "tensorrt_bindings"),
    Wheel("tensorrt-cu12-bindings==10.16.0.72", "3.11", "tensorrt_bindings"),
    Wheel("tensorrt-cu13-bindings==11.4.0.106", "3.11", "tensorrt_bindings"),
)


@dataclass(frozen=True)
class Bindings:
    """A Python that can import one version's bindings."""

    version: str
    module: str
    python: str
    environment: dict[str, str]

    def run(self, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a script with the bindings and this checkout on its path."""
        command = [self.python, str(script), self.module, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=120)


def fetch(wheel: Wheel, cache: Path) -> Path:
    """The folder with the unpacked bindings: the package's Python files and its extension module, nothing else."""
    folder = cache / wheel.version
    if (folder / wheel.module / "__init__.py").is_file():
        return folder
    if wheel.large and not os.environ.get(ASK):
        pytest.skip(f"{wheel.requirement} is 550 MB: set {ASK}=1 to fetch it once")
    download = cache / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", wheel.python, "--implementation", "cp", "--dest", str(download)]
    for platform in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        command += ["--platform", platform]
    result = subprocess.run([*command, wheel.requirement], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"{wheel.requirement} cannot be downloaded: {result.stderr.strip().splitlines()[-1:]}")
    name = wheel.requirement.partition("==")[0].replace("-", "_")
    archive = next(download.glob(f"{name}-{wheel.version}-*.whl"))
    wanted = (f"{wheel.module}/__init__.py", f"{wheel.module}/tensorrt.so", f"{wheel.module}/plugin/")
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder, [member for member in files.namelist() if member.startswith(wanted)])
    archive.unlink()
    return folder


def stand_ins(folder: Path) -> Path:
    """Libraries that export the symbols and do nothing: each returns a null pointer."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in libraries")
    source = folder / "stand_ins.c"
    source.write_text("".join(f"void* {symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for major in (8, 10, 11):
        for name in LIBRARIES:
            file = f"lib{name}.so.{major}"
            command = [compiler, "-shared", "-fPIC", "-w", "-o", str(folder / file), str(source), f"-Wl,-soname,{file}"]
            subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def stand_in_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_ins(tmp_path_factory.mktemp("stand-ins"))


@pytest.fixture(scope="session", params=[*WHEELS, None], ids=lambda wheel: wheel.version if wheel else "rtx")
def bindings(request: pytest.FixtureRequest, repository: Path) -> Bindings:
    """The bindings of each version in turn, and the installed TensorRT-RTX."""
    wheel: Wheel | None = request.param
    if wheel is None:
        module = pytest.importorskip("tensorrt_rtx")
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        return Bindings(str(module.__version__), "tensorrt_rtx", sys.executable, environment)
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the bindings are for Linux on x86-64")
    python = find_python(wheel.python)
    folder = fetch(wheel, cache_folder("contract"))
    libraries = request.getfixturevalue("stand_in_libraries")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(repository)]),
        "LD_LIBRARY_PATH": str(libraries),
    }
    return Bindings(wheel.version, wheel.module, python, environment)


class Rtx:
    """TensorRT-RTX's parser and builder, for a compute capability that is named instead of found.

    One logger serves all builders, since TensorRT takes no second one; it keeps what TensorRT says, for the message of
    a failing test.
    """

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.lines: list[str] = []
        lines = self.lines

        class Recorder(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.Severity.WARNING:
                    lines.append(message)

        self.logger = Recorder()
        self.alive: list[Any] = []  # a network's builder and parser must outlive it

    def parse(self, content: bytes) -> tuple[Any, list[str]]:
        """The network of an ONNX model, and why it was refused; nothing where it was not."""
        self.lines.clear()
        builder = self.trt.Builder(self.logger)
        network = builder.create_network(0)
        parser = self.trt.OnnxParser(network, self.logger)
        self.alive[:] = [builder, parser, network]
        if parser.parse(content):
            return network, []
        return network, [parser.get_error(index).desc() for index in range(parser.num_errors)] or ["refused"]

    def build(self, content: bytes, largest_batch: int = 4) -> Any:
        """The network of an ONNX model, after an engine was built of it."""
        network, refusals = self.parse(content)
        assert not refusals, refusals
        builder = self.alive[0]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(self.trt.ComputeCapability.SM89, 0)
        source = network.get_input(0)
        if source.shape[0] == -1:
            profile = builder.create_optimization_profile()
            image = tuple(source.shape)[1:]
            profile.set_shape(source.name, (1, *image), (largest_batch // 2, *image), (largest_batch, *image))
            config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config) is not None, self.lines
        return network


@pytest.fixture(scope="session")
def rtx() -> Rtx:
    """See `Rtx`; skips where it is not installed."""
    return Rtx(pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (the extra rtx brings it)"))
