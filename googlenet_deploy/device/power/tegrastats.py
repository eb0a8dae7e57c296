"""tegrastats: runs NVIDIA's monitor as a subprocess and parses its lines in every published format.

A power rail is printed as ``NAME now/average`` in milliwatts: without a unit until JetPack 4 (``POM_5V_IN 933/933``),
with a unit since JetPack 5 (``VDD_IN 12479mW/12479mW``), followed by the peak since JetPack 7 (``VDD_GPU_SOC
5139mW/5139mW/5139mW``). Temperatures are printed as ``NAME@20.5C``, since JetPack 7 followed by the peak. The GPU's
clock in MHz is printed as ``GR3D_FREQ 0%@76``, one per cluster in brackets since Orin, without the load on Thor; a
clock that cannot be read is omitted after the load. The first number of a rail is the current value; the average runs
since tegrastats started.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.power.ina import SOURCE, UNCONNECTED, ina3221_limits
from googlenet_deploy.device.power.meter import MeterGoneError, NotMeasured, Opened, Rail
from googlenet_deploy.device.power.rails import Total, total_of
from googlenet_deploy.device.system.sysfs import LostReadingError

INTERVAL = 0.1
SECONDS_OF_SILENCE = 3.0
LINES_TO_FIND_RAILS = 5
OFFLINE_CELSIUS = -250.0
_CHUNK = 65536
_SUPPLY = re.compile(r"(?<!\S)([A-Za-z]\w*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?:/-?\d+(?:mW)?)?(?!\S)")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)*(?!\S)")
_GPU_CLOCK = re.compile(r"(?<!\S)GR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?(?!\S)")


class TegrastatsLine(NamedTuple):
    """The values in one line.

    Attributes:
        watts: By rail.
        celsius: By sensor; sensors of powered-down units are left out.
        gpu_mhz: One per cluster of the GPU; empty if the line has none.
        gpu_percent: The GPU's load; None if the line does not have it.
    """

    watts: Dict[str, float]
    celsius: Dict[str, float]
    gpu_mhz: Tuple[int, ...]
    gpu_percent: Optional[int]


def parse_line(line: str) -> TegrastatsLine:
    """Parses one line; values that it does not contain are empty."""
    celsius = {name: float(value) for name, value in _TEMPERATURE.findall(line)}
    clock = _GPU_CLOCK.search(line)
    return TegrastatsLine(
        watts={name: int(now) / 1000 for name, now in _SUPPLY.findall(line) if name != UNCONNECTED},
        celsius={name: value for name, value in celsius.items() if value > OFFLINE_CELSIUS},
        gpu_mhz=tuple(int(part) for part in (clock.group(2) or "").split(",") if part) if clock else (),
        gpu_percent=int(clock.group(1)) if clock and clock.group(1) else None,
    )


class _Lines:
    """The lines of a subprocess, read without ever waiting longer than `SECONDS_OF_SILENCE`."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command[0]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no shell
                list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise MeterGoneError(f"{self.command}: cannot be started: {error.strerror or error}") from error
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._rest = b""
        self._closed = False

    def next(self) -> str:
        """The next complete line.

        Raises:
            LostReadingError: No line arrived in time.
            MeterGoneError: The process has ended.
        """
        deadline = time.monotonic() + SECONDS_OF_SILENCE
        while b"\n" not in self._rest:
            chunk = self._chunk(max(0.0, deadline - time.monotonic()))
            if not chunk:
                raise MeterGoneError(self._why_it_ended())
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace")

    def _chunk(self, seconds: float) -> bytes:
        try:
            if not select.select([self._output], [], [], seconds)[0]:
                raise LostReadingError(f"{self.command}: silent for {SECONDS_OF_SILENCE:g} s")
            return os.read(self._output.fileno(), _CHUNK)
        except (OSError, ValueError):  # closed from another thread
            return b""

    def close(self) -> None:
        """Terminates the process, and kills it if it does not respond."""
        if self._closed:
            return
        self._closed = True
        self._process.terminate()
        try:
            self._process.wait(SECONDS_OF_SILENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._errors.close()

    def _why_it_ended(self) -> str:
        if self._closed:
            return f"{self.command}: was closed"
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{self.command}: ended ({how}{': ' + words[-1] if words else ''})"


class TegrastatsMeter:
    """The power rails that tegrastats prints; see `meter.Meter`.

    Args:
        command: The command that starts it.
        total: Definition of the total; None derives it from the names of the rails.
        interval: Seconds between two of its lines.

    Raises:
        MeterGoneError: It cannot be started, ends at once, or prints no rails, or none of a known module.
    """

    name = "tegrastats"
    counts_energy = False
    lag = 0.0
    paced = True
    source = f"{SOURCE}; 5 V and 2 milliohms assumed, since tegrastats does not report them"

    def __init__(self, command: Sequence[str], total: Optional[Total] = None, interval: float = INTERVAL) -> None:
        self.period = interval
        self._lines = _Lines([*command, "--interval", str(round(interval * 1000))])
        try:
            names = self._find_rails()
            chosen = _choose_total(names, total)
        except MeterGoneError:
            self._lines.close()
            raise
        self.covers = chosen.covers
        self.rails: Tuple[Rail, ...] = tuple(Rail(name, name in chosen.rails, ina3221_limits()) for name in names)
        self.notes: List[str] = []

    def read(self) -> Dict[str, float]:
        """Watts of every rail in the next line; see `meter.Meter.read`."""
        line = self._lines.next()
        watts = parse_line(line).watts
        missing = [rail.name for rail in self.rails if rail.name not in watts]
        if missing:
            raise LostReadingError(f"tegrastats: a line without {', '.join(missing)}: {line[:60]!r}")
        return watts

    def close(self) -> None:
        """Ends tegrastats."""
        self._lines.close()

    def _find_rails(self) -> List[str]:
        for _ in range(LINES_TO_FIND_RAILS):
            try:
                names = list(parse_line(self._lines.next()).watts)
            except LostReadingError as error:
                raise MeterGoneError(error.message) from error
            if names:
                return names
        raise MeterGoneError("tegrastats prints no supplies (the Nano 2GB has no power monitor)")


def _choose_total(names: List[str], chosen: Optional[Total]) -> Total:
    total = chosen or total_of(names)
    if total is None:
        raise MeterGoneError(f"tegrastats prints supplies of no known module: {', '.join(names)}")
    missing = [name for name in total.rails if name not in names]
    if missing:
        raise MeterGoneError(f"tegrastats prints no {', '.join(missing)}; it prints {', '.join(names)}")
    return total


def find_tegrastats(root: Path = Path("/")) -> Optional[str]:
    """The path of tegrastats; None if it is not installed."""
    usual = root / "usr/bin/tegrastats"
    return str(usual) if usual.is_file() else (shutil.which("tegrastats") if root == Path("/") else None)


def open_tegrastats(chosen: Tuple[str, ...], root: Path) -> Opened:
    """Opens a meter, or returns why there is none; see `meter.MeterEntry`."""
    path = find_tegrastats(root)
    if path is None:
        return NotMeasured("tegrastats is not installed (it comes with Jetson Linux)")
    try:
        return TegrastatsMeter([path], Total(chosen, "the chosen rails") if chosen else None)
    except MeterGoneError as error:
        return NotMeasured(error.message)
