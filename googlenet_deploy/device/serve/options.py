"""Where `infer --serve` listens, its limits, and what is monitored."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Tuple

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.power.meter import METERS
from googlenet_deploy.device.stream.address import is_camera
from googlenet_deploy.errors import DeviceError, UsageError

SERVING = "serving"
DEFAULT_ADDRESS = "127.0.0.1:8080"
MEBIBYTE = 2**20
LARGEST_PORT = 65535
_ADDRESS = re.compile(r"(?:(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:]+)):)?(?P<port>\d{1,5})")


class Address(NamedTuple):
    """Where a server listens.

    Attributes:
        host: A name or an IP address.
        port: From 0 to 65535; 0 selects a free port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """As in a URL: ``127.0.0.1:8080``, ``[::1]:8080``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ServeOptions:
    """Limits of a server, and what it monitors.

    Attributes:
        token_file: A file with the token that every request must have; None generates a token if the server can be
            reached from other machines, and requires none on loopback.
        low_confidence: Answers whose best class has a smaller probability count as low-confidence.
        capture_low_confidence: Folder for their images; None stores none.
        capture_images: Most images stored there.
        capture_megabytes: Most MiB stored there.
        max_connections: Most connections at once.
        max_body: Largest image file in MiB.
        calibration_table: A table from `calibrate` with which activations are compared; None disables the comparison.
        drift_model: The ONNX model whose activations are checked; None uses the served model.
        drift_every: Every N-th image is checked.
        power: The power meter, one of `METERS`.

    Raises:
        UsageError: A value is out of range.
    """

    token_file: Optional[str] = option(
        None, "the token that requests must carry", group=SERVING, metavar="FILE",
        shown_default="none on loopback, else a new one at each start",
    )  # fmt: skip
    low_confidence: float = option(
        0.5, "probability of the best class below which an answer counts as low-confidence", group=SERVING,
        metavar="P", above=0, most=1,
    )  # fmt: skip
    capture_low_confidence: Optional[str] = option(
        None, "keep the images of low-confidence answers, to be labelled next", group=SERVING, metavar="DIR"
    )
    capture_images: int = option(1000, "most images kept", group=SERVING, metavar="N", least=1, most=10**6)
    capture_megabytes: float = option(500.0, "most MiB kept", group=SERVING, metavar="MIB", above=0, most=10**7)
    max_connections: int = option(64, "connections at once", group=SERVING, metavar="N", least=1, most=1024)
    max_body: float = option(16.0, "largest image file, MiB", group=SERVING, metavar="MIB", above=0, most=1024)
    calibration_table: Optional[str] = option(
        None, "compare activations with this table of calibrate (drift)", group=SERVING, metavar="FILE"
    )
    drift_model: Optional[str] = option(
        None, "the ONNX model whose activations are compared", group=SERVING, metavar="ONNX",
        shown_default="MODEL; of an engine only input and outputs",
    )  # fmt: skip
    drift_every: int = option(32, "compare every N-th image", group=SERVING, metavar="N", least=1, most=10**9)
    power: str = option("auto", "the power meter; auto: what this machine has", group=SERVING, choices=METERS)

    def __post_init__(self) -> None:
        check_options(self)
        if self.drift_model is not None and self.calibration_table is None:
            raise UsageError("--drift-model needs --calibration-table", "pass the table that calibrate wrote")

    @property
    def largest_body(self) -> int:
        """Largest image file in bytes."""
        return int(self.max_body * MEBIBYTE)


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT``.

    Raises:
        UsageError: It is none of these.
    """
    if is_camera(text):
        raise UsageError(f"--serve {text}: is a camera, not an address", f"write: {text} --serve, or --serve=ADDRESS")
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > LARGEST_PORT:
        raise UsageError(
            f"--serve {text}: is not HOST:PORT", "such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080; inputs go first"
        )
    return Address(found["six"] or found["host"] or DEFAULT_ADDRESS.partition(":")[0], int(found["port"]))


def listen(address: Address) -> Tuple[List[socket.socket], bool]:
    """Opens the listening sockets of an address: one for each IP address of its host.

    Returns:
        The sockets, and whether all of them are on loopback.

    Raises:
        DeviceError: The host is unknown, or the port is in use or not allowed.
    """
    opened: List[socket.socket] = []
    local = True
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        for family, kind, protocol, _, place in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((place[0], port, *place[2:]))
            port = sock.getsockname()[1]  # the free port that was chosen serves every address
            sock.listen(128)
            local = local and ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback
    except OSError as error:
        for sock in opened:
            sock.close()
        what = (error.strerror or str(error)).lower()
        raise DeviceError(f"cannot listen on {address}: {what}", "choose another address or port") from error
    return opened, local
