"""A server in this process on a free port of loopback, and a plain client for it."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.serve.options import ServeOptions, parse_address
from googlenet_deploy.device.serve.run import serve_model
from googlenet_deploy.device.stream.inputs import open_inputs
from googlenet_deploy.device.stream.options import FrameOptions


class Client:
    """Talks to a server; every request on a connection of its own.

    Attributes:
        lines: What the server reported.
        stop: Ends it.
    """

    def __init__(self, port: int, lines: list[str], stop: threading.Event) -> None:
        self.port, self.lines, self.stop = port, lines, stop

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes, *, shut: bool = False) -> bytes:
        """Everything that the server sends upon these bytes until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(data)
            if shut:
                sock.shutdown(socket.SHUT_WR)
            found = b""
            while part := sock.recv(65536):
                found += part
            return found

    def metric(self, name: str) -> float:
        """The value of a line of /metrics, with its labels."""
        text = self.ask("GET", "/metrics")[2].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found.group(1))


@contextmanager
def serving(model: Path, *sources: str, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Client]:
    """Serves a model while the block runs; the power meter is off."""
    stop, lines, ready = threading.Event(), [], threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        if line.startswith("serving on"):
            ready.set()

    def work() -> None:
        try:
            with open_runner(model, "onnxruntime", batch=4) as runner:
                assert runner.metadata.preprocessing is not None
                serve_model(
                    runner,
                    runner.metadata.preprocessing,
                    runner.metadata.class_names,
                    top_k=3,
                    address=parse_address(address),
                    options=ServeOptions(power="none", **options),
                    frames=FrameOptions(batch_size=4),
                    inputs=open_inputs(sources, None, stop) if sources else None,
                    source=" ".join(sources),
                    stop=stop,
                    report=report,
                )
        except Exception as error:  # noqa: BLE001 - the test raises it
            failures.append(error)
            ready.set()

    failures: list[Exception] = []
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(20)
        if failures:
            raise failures[0]
        port = next(int(found.group(1)) for line in lines if (found := re.search(r":(\d+)/ ", line)))
        yield Client(port, lines, stop)
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """See `serving`."""
    return serving


@pytest.fixture(scope="module")
def server(colour_model: Path) -> Iterator[Client]:
    """A server of the colour classifier that tests share."""
    with serving(colour_model, max_body=0.5) as client:
        yield client


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (12, 10), form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, form)
    return stream.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """An image file of one colour."""
    return encoded
