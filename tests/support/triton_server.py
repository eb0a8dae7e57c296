"""Starts the real Triton Inference Server of the wheel nvidia-pytriton, on loopback, with all models on the CPU."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "GOOGLENET_DEPLOY_TRITON"
BACKEND = Path(__file__).parent / "triton_backend/model.py"
START_SECONDS, STOP_SECONDS, CLIENT_SECONDS = 150, 20, 90


def find_triton(repository: Path) -> str | None:
    """A Python with nvidia-pytriton: the variable's, this one, or that of `make triton`; None if there is none."""
    own = repository / "build/triton/bin/python"
    for python in (os.environ.get(VARIABLE, ""), sys.executable, str(own)):
        if python and shutil.which(python) and _has_server(python):
            return python
    return None


def _has_server(python: str) -> bool:
    code = "import pytriton, tritonclient.http, tritonclient.grpc, onnxruntime"
    return subprocess.run([python, "-c", code], capture_output=True, check=False, env=_bare()).returncode == 0


def _bare() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}


@dataclass(frozen=True)
class Triton:
    """A running server.

    Attributes:
        python: The Python with tritonclient.
        http: Address of the HTTP service.
        grpc: Address of the gRPC service.
    """

    python: str
    http: str
    grpc: str

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.http}/{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a script with the server's Python."""
        command = [self.python, *map(str, arguments)]
        return subprocess.run(command, env=_bare(), capture_output=True, text=True, check=False, timeout=CLIENT_SECONDS)


@contextmanager
def triton_server(python: str, repositories: Sequence[Path], folder: Path) -> Iterator[Triton]:
    """Serves model repositories until the block ends.

    Raises:
        AssertionError: The server does not become ready in time; its log is the message.
    """
    code = "import pytriton, pathlib, sysconfig; print(pathlib.Path(pytriton.__file__).parent)"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=_bare())
    server = Path(result.stdout.split("\n")[-2]) / "tritonserver"
    site = server.parent.parent
    backends = _backends(folder / "backends", server, python)
    ports = _free_ports(2)
    command = [str(server / "bin/tritonserver"), f"--backend-directory={backends}", "--allow-metrics=false"]
    command += [f"--model-repository={path}" for path in repositories]
    for name, port in zip(("http", "grpc"), ports, strict=True):
        command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    environment = {**_bare(), "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"), "PYTHONPATH": str(site)}
    environment["PATH"] = f"{Path(python).parent}{os.pathsep}{environment['PATH']}"
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        triton = Triton(python, *(f"127.0.0.1:{port}" for port in ports))
        _wait(triton, process, log)
        yield triton
    finally:
        _stop(process)


def _backends(folder: Path, server: Path, python: str) -> Path:
    """The wheel's Python backend, and our own Python backend under the name of ONNX Runtime's."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(server / "backends/python", folder / "python")
    shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", folder / "python")
    (folder / "onnxruntime").mkdir()
    shutil.copy(BACKEND, folder / "onnxruntime/model.py")
    return folder


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def _wait(triton: Triton, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            triton.get("v2/health/ready")
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"Triton is not ready: {log.read_text(errors='replace')[-6000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
