"""`infer --serve` under load: parallel clients, latency percentiles, memory, and hostile requests between the others.

The server is a process of its own. Clients keep their connections; every answer is compared with the class that
`Classifier` gives the same image. A hostile client sends malformed requests all the while. The peer is a plain loop of
one client.

    python benchmarks/serve.py [--requests 10000] [--clients 50] [--record]
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import IMAGES, bvlc_onnx, options, record, say, table

from googlenet_deploy import Classifier

START_SECONDS = 60.0
POLL = 0.05
WARM = 0.2  # share of the requests after which memory is compared
GROWTH_MB = 32.0  # allowed growth from there to the end
PERCENTILES = (50, 90, 95, 99)
HEAD = b"Host: 127.0.0.1\r\n"
# Each with the status that must be returned.
HOSTILE: dict[str, tuple[bytes, int]] = {
    "no Content-Length": (b"POST /classify HTTP/1.1\r\n" + HEAD + b"\r\n", 411),
    "two lengths": (b"POST /classify HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "huge body": (b"POST /classify HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999999\r\n\r\n", 413),
    "huge header": (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "path traversal": (b"GET /../../../etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    "unknown method": (b"BREW /classify HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
    "no HTTP": (bytes(range(256)) + b"\r\n\r\n", 400),
    "no image": (b"POST /classify HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello", 415),
    "another site": (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
}


class Server:
    """The server's process; a context manager that stops it with SIGTERM.

    Attributes:
        port: The port it listens on.
    """

    def __init__(self, model: Path, batch: int) -> None:
        words = [sys.executable, "-m", "googlenet_deploy", "infer", str(model), "--serve", "0", "--batch", str(batch)]
        self._process = subprocess.Popen([*words, "--power", "none"], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self.port = 0
        for line in self._process.stderr:
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found[1])
                say(line.partition("; ")[2].strip())
                break

    def megabytes(self) -> float:
        """Resident memory in MiB: VmRSS of proc(5)."""
        text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii", errors="replace")
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:"))) / 1024

    def __enter__(self) -> Server:
        if not self.port:
            raise SystemExit("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(30)
        if status != 0:
            raise SystemExit(f"the server ended with exit status {status}")


class Load:
    """Requests of several clients.

    Attributes:
        seconds: Duration of each request.
        errors: Counts of errors.
        done: Number of answered requests.
    """

    def __init__(self, port: int, images: list[tuple[bytes, int]]) -> None:
        self.port, self.images = port, images
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()
        self.done = 0

    def run(self, clients: int, requests: int) -> float:
        """Images per second of `clients` clients together."""
        shares = [requests // clients + (number < requests % clients) for number in range(clients)]
        threads = [threading.Thread(target=self._client, args=(number, share)) for number, share in enumerate(shares)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return requests / (time.perf_counter() - start)

    def _client(self, number: int, requests: int) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        for content, expected in islice(cycle(self.images), number, number + requests):
            start = time.perf_counter()
            try:
                connection.request("POST", "/classify", content)
                answer = connection.getresponse()
                body = answer.read()
            except OSError as error:
                self.errors[type(error).__name__] += 1
                connection.close()
                continue
            self.seconds.append(time.perf_counter() - start)
            self.done += 1
            if answer.status != 200:
                self.errors[f"status {answer.status}"] += 1
            elif json.loads(body)["classes"][0]["class"] != expected:
                self.errors["another class"] += 1
        connection.close()


def attack(port: int, stop: threading.Event, refused: Counter[str], wrong: Counter[str]) -> None:
    """Sends hostile requests in turn until stopped; one connection is kept open and silent throughout."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
        silent.sendall(b"POST /classify HTTP/1.1\r\n")
        for name, (data, expected) in cycle(HOSTILE.items()):
            if stop.wait(0.02):
                return
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    status = int(sock.recv(4096)[9:12] or b"0")
            except OSError as error:
                wrong[f"{name}: {type(error).__name__}"] += 1
                continue
            (refused if status == expected else wrong)[name if status == expected else f"{name}: {status}"] += 1


def watch(server: Server, load: Load, stop: threading.Event) -> list[tuple[int, float]]:
    """Records (answered requests, MiB) until stopped."""
    found = []
    while not stop.wait(POLL):
        found.append((load.done, server.megabytes()))
    return found


def expected_classes(model: Path, paths: list[Path]) -> list[tuple[bytes, int]]:
    """The images' files with the class predicted by the Python API."""
    with Classifier(model, batch=8) as classify:
        return [(path.read_bytes(), classify(path).best.index) for path in paths]


def growth(memory: list[tuple[int, float]], requests: int) -> float:
    """Growth in MiB from the median of the first tenth after the warm-up to that of the last tenth."""

    def median(low: float, high: float) -> float:
        return float(np.median([size for done, size in memory if low * requests <= done <= high * requests]))

    return median(0.9, 1.0) - median(WARM, WARM + 0.1)


def main() -> int:
    parser = options(__doc__ or "", rounds=1)
    parser.add_argument("--requests", type=int, default=10_000, help="requests of all clients (default 10000)")
    parser.add_argument("--clients", type=int, default=50, help="parallel clients (default 50)")
    parser.add_argument("--images", type=int, default=100, help="different images (default 100)")
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default 8)")
    arguments = parser.parse_args()
    model = bvlc_onnx()
    images = expected_classes(model, sorted(IMAGES.glob("*.jpg"))[: arguments.images])
    refused: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    with Server(model, arguments.batch) as server:
        single = Load(server.port, images)
        single_rate = single.run(1, max(20, arguments.requests // 50))
        load, stop = Load(server.port, images), threading.Event()
        memory: list[tuple[int, float]] = []
        beside = [
            threading.Thread(target=lambda: memory.extend(watch(server, load, stop))),
            threading.Thread(target=attack, args=(server.port, stop, refused, wrong)),
        ]
        for thread in beside:
            thread.start()
        rate = load.run(arguments.clients, arguments.requests)
        stop.set()
        for thread in beside:
            thread.join()
    found = report(single, single_rate, load, rate, arguments.clients)
    grown = growth(memory, arguments.requests)
    say(f"memory: {memory[-1][1]:.0f} MiB at the end, {grown:+.1f} MiB since {WARM:.0%} of the requests")
    say(f"hostile requests refused: {sum(refused.values())} of {sum(refused.values()) + sum(wrong.values())}")
    failures = [f"{count} x {what}" for what, count in (load.errors + single.errors + wrong).items()]
    failures += [f"memory grew by {grown:.0f} MiB"] if grown > GROWTH_MB else []
    if arguments.record:
        record("serve", {**found, "memory_growth_mib": grown, "hostile_refused": dict(refused), "failures": failures})
    print(f"does not hold: {'; '.join(failures) or 'nothing'}")
    return 1 if failures else 0


def report(single: Load, single_rate: float, load: Load, rate: float, clients: int) -> dict[str, Any]:
    """Prints rates and percentiles; returns the metrics."""
    found: dict[str, Any] = {"requests": load.done, "clients": clients, "ratio_to_one_client": rate / single_rate}
    rows = []
    for name, part, speed in (("1 client", single, single_rate), (f"{clients} clients", load, rate)):
        milliseconds = [1000 * float(np.percentile(part.seconds, share)) for share in PERCENTILES]
        rows.append((name, f"{part.done}", f"{speed:.1f}", *(f"{value:.0f}" for value in milliseconds)))
        figures = {f"p{share}_ms": value for share, value in zip(PERCENTILES, milliseconds, strict=True)}
        found[name] = {"images_per_second": speed, **figures, "errors": dict(part.errors)}
    table(("", "requests", "images/s", *(f"p{share} ms" for share in PERCENTILES)), rows)
    return found


if __name__ == "__main__":
    sys.exit(main())
