"""Reads HTTP/1.1 requests strictly, in bounded memory and time (RFC 9110 and 9112).

Unlike the standard library's `http.server`, it rejects bodies of unknown length, repeated lengths, folded header lines
and control characters. A request has one deadline for its head and one for its body, so that a client that sends a byte
now and then cannot hold its connection longer than a silent one.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import parse_qsl, urlsplit

LARGEST_HEAD = 16 * 1024
MOST_HEADERS = 64
IDLE_SECONDS = 15.0  # until a connection's next request begins
HEAD_SECONDS = 5.0
BODY_SECONDS = 30.0
BLOCK = 64 * 1024

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) ([!-~]{1,4096}) HTTP/(\d)\.(\d)")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,15}")
_ONCE = ("content-length", "host", "transfer-encoding", "authorization", "expect", "content-type")
_END = b"\r\n\r\n"


class RefusedRequestError(Exception):
    """A request that is rejected with an error, after which the connection is closed.

    Args:
        status: HTTP status.
        problem: One line for the client.
        headers: Headers of the answer.
    """

    def __init__(self, status: int, problem: str, headers: Optional[Dict[str, str]] = None) -> None:
        super().__init__(problem)
        self.status, self.problem, self.headers = status, problem, headers or {}


class Request(NamedTuple):
    """The head of a request.

    Attributes:
        method: "GET", "POST", ...
        path: Percent-encoding is not decoded; the paths of this server have none.
        query: The first value of each name.
        headers: By lower-case name; values of repeated headers are joined with commas.
        length: Bytes of the body; None if not stated.
        keep_alive: Whether the client accepts another answer on this connection.
    """

    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]
    length: Optional[int]
    keep_alive: bool


class RequestReader:
    """Reads the requests of one connection, one after another.

    Args:
        sock: The connection.
        clock: Seconds.
    """

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock, self._clock = sock, clock
        self._buffer = bytearray()

    def head(self) -> Optional[Request]:
        """Reads the next request without its body; None if the client has closed, or is idle for `IDLE_SECONDS`.

        Raises:
            RefusedRequestError: It is malformed, too large or too slow.
            OSError: The connection is broken.
        """
        if not self._buffer and not self._receive(self._clock() + IDLE_SECONDS):
            return None
        deadline = self._clock() + HEAD_SECONDS
        end = self._buffer.find(_END)
        while end < 0:
            if len(self._buffer) > LARGEST_HEAD:
                raise RefusedRequestError(431, f"the request's head is larger than {LARGEST_HEAD} bytes")
            if not self._receive(deadline):
                raise RefusedRequestError(408, "the request's head is not complete")
            end = self._buffer.find(_END)
        if end > LARGEST_HEAD:
            raise RefusedRequestError(431, f"the request's head is larger than {LARGEST_HEAD} bytes")
        text = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + len(_END)]
        return parse_head(text)

    def body(self, length: int) -> bytes:
        """Reads the body of the request whose head was read last.

        Raises:
            RefusedRequestError: It does not arrive completely within `BODY_SECONDS`.
            OSError: The connection is broken.
        """
        deadline = self._clock() + BODY_SECONDS
        while len(self._buffer) < length:
            if not self._receive(deadline, length - len(self._buffer)):
                raise RefusedRequestError(408, f"only {len(self._buffer)} of {length} bytes came")
        content = bytes(self._buffer[:length])
        del self._buffer[:length]
        return content

    def discard(self, most: int, seconds: float) -> None:
        """Keeps reading for a short while, so that a client that still sends gets the answer instead of a reset."""
        self._buffer.clear()
        deadline = self._clock() + seconds
        while most > 0 and self._receive(deadline):
            most -= len(self._buffer)
            self._buffer.clear()

    def _receive(self, deadline: float, most: int = BLOCK) -> bool:
        """Adds received data to the buffer; False at the end of the stream and at the deadline."""
        left = deadline - self._clock()
        if left <= 0:
            return False
        self._sock.settimeout(left)
        try:
            part = self._sock.recv(min(most, BLOCK))
        except socket.timeout:  # noqa: UP041 - another class in Python 3.8
            return False
        self._buffer += part
        return bool(part)


def parse_head(text: str) -> Request:
    """A request's head, without the empty line at its end.

    Raises:
        RefusedRequestError: It is malformed, or requests something that this server does not support.
    """
    first, *lines = text.split("\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise RefusedRequestError(400, "is not an HTTP request")
    method, target, major, minor = found.groups()
    if major != "1":
        raise RefusedRequestError(505, "speaks another version of HTTP than 1.0 or 1.1")
    headers = _headers(lines)
    if "host" not in headers and minor != "0":
        raise RefusedRequestError(400, "has no Host header")
    path, query = _target(target)
    connection = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    keep_alive = "close" not in connection and (minor != "0" or "keep-alive" in connection)
    return Request(method, path, query, headers, _body_length(headers), keep_alive)


def _headers(lines: List[str]) -> Dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise RefusedRequestError(431, f"has more than {MOST_HEADERS} headers")
    headers: Dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or _CONTROL.search(line):
            raise RefusedRequestError(400, "has a malformed header")
        name, value = found.group(1).lower(), found.group(2)
        if name in headers and name in _ONCE:
            raise RefusedRequestError(400, f"has the header {name} twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _target(target: str) -> Tuple[str, Dict[str, str]]:
    try:
        parts = urlsplit(target)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise RefusedRequestError(400, "has a malformed address") from None
    if not parts.path.startswith("/"):
        raise RefusedRequestError(400, "has a malformed address")
    query: Dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return parts.path, query


def _body_length(headers: Dict[str, str]) -> Optional[int]:
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise RefusedRequestError(400, "has both Content-Length and Transfer-Encoding")
        raise RefusedRequestError(411, "state the length of the body (Content-Length); chunks are not read")
    stated = headers.get("content-length")
    if stated is None:
        return None
    if not _LENGTH.fullmatch(stated):
        raise RefusedRequestError(400, "has a malformed Content-Length")
    return int(stated)
