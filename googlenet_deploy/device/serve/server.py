"""Connections: accepted up to a limit, each in its own thread, rejected beyond it, and ended gracefully."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import selectors
import socket
import threading
import time
from http import HTTPStatus
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Set,
    Tuple,
    Union,
)

from googlenet_deploy.device.serve.request import RefusedRequestError, Request, RequestReader

SEND_SECONDS = 10.0  # for one piece of an answer
GRACE_SECONDS = 10.0  # for requests in progress when the server is stopped
REQUESTS_PER_CONNECTION = 10_000
POLL_SECONDS = 0.5
LINGER_BYTES, LINGER_SECONDS = 2**20, 1.0
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "googlenet_deploy_token"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Pieces(Protocol):
    """The content of an answer that has no end."""

    def __iter__(self) -> Iterator[bytes]:
        """Yields the pieces as they arrive."""
        ...

    def close(self) -> None:
        """Called when the client has disconnected, or the server stops."""
        ...


class Response(NamedTuple):
    """An answer.

    Attributes:
        status: HTTP status.
        body: The content, or the pieces of an endless answer.
        content_type: Value of the Content-Type header.
        headers: Further headers.
    """

    status: int
    body: Union[bytes, Pieces]
    content_type: str = TEXT
    headers: Mapping[str, str] = {}


class Endpoint(NamedTuple):
    """The endpoint at a path.

    Attributes:
        method: The accepted method; HEAD is accepted if it is GET.
        answer: Called with the request and its body.
        open: Whether it needs no token.
        largest_body: Largest body in bytes.
    """

    method: str
    answer: Callable[[Request, bytes], Response]
    open: bool = False
    largest_body: int = 0


class Access(NamedTuple):
    """Access control.

    Attributes:
        token: The token that every request must have; None requires none.
        hosts: Without a token, the allowed Host headers, so that no page of another site reaches the server by a
            name that it pointed to this machine (DNS rebinding); empty allows any.
    """

    token: Optional[str]
    hosts: Tuple[str, ...] = ()


def json_response(status: int, value: Any, headers: Optional[Mapping[str, str]] = None) -> Response:  # noqa: ANN401
    """A JSON object on one line."""
    return Response(status, json.dumps(value, ensure_ascii=False).encode() + b"\n", JSON, headers or {})


def refusal(error: RefusedRequestError) -> Response:
    """The answer to a rejected request."""
    return json_response(error.status, {"error": error.problem}, error.headers)


class HttpServer:
    """Answers requests until it is stopped.

    Args:
        sockets: Listening sockets.
        endpoints: Endpoints by path.
        access: Access control.
        max_connections: Most connections at once; others are answered 503 and closed.
        on_answer: Called with the path ("other" for unknown paths) and status of every answer.
        stop: Ends `run`, and endless answers.
    """

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        endpoints: Mapping[str, Endpoint],
        access: Access,
        max_connections: int,
        on_answer: Callable[[str, int], None],
        stop: threading.Event,
    ) -> None:
        self._sockets, self._endpoints, self._access = list(sockets), endpoints, access
        self._on_answer, self._stop = on_answer, stop
        self._places = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._open: Dict[socket.socket, threading.Thread] = {}
        self._idle: Set[socket.socket] = set()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def run(self) -> None:
        """Accepts connections until `stop` is set; then waits for requests in progress."""
        with selectors.DefaultSelector() as selector:
            for sock in self._sockets:
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(POLL_SECONDS):
                    self._accept(key.fileobj)  # type: ignore[arg-type] # the sockets registered above
        self.close()

    def close(self) -> None:
        """Stops listening, closes idle connections, and allows the others `GRACE_SECONDS`."""
        self._stop.set()
        for sock in self._sockets:
            sock.close()
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            with self._lock:
                waiting = dict(self._open)
                for sock in self._idle:
                    _shut(sock)
            if not waiting or time.monotonic() > deadline:
                break
            next(iter(waiting.values())).join(0.1)
        for sock in waiting:
            _shut(sock)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # it ended before it was accepted, or there is no free file descriptor
            self._stop.wait(0.01)
            return
        if not self._places.acquire(blocking=False):
            self._turn_away(sock)
            return
        thread = threading.Thread(target=self._converse, args=(sock,), name="connection", daemon=True)
        with self._lock:
            self._open[sock] = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads
            self._end(sock)

    def _turn_away(self, sock: socket.socket) -> None:
        """Without a thread: what does not fit the socket's buffer is not sent."""
        response = refusal(RefusedRequestError(503, "too many connections", {"Retry-After": "1"}))
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(_head(response, keep_alive=False) + _whole(response))
            sock.shutdown(socket.SHUT_WR)
        self._on_answer("other", response.status)

    def _converse(self, sock: socket.socket) -> None:
        reader = RequestReader(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(REQUESTS_PER_CONNECTION):
                if not self._exchange(sock, reader):
                    break
        except OSError:  # the client has disconnected, or does not receive
            pass
        finally:
            self._end(sock)

    def _exchange(self, sock: socket.socket, reader: RequestReader) -> bool:
        """Answers one request; returns whether another may follow."""
        path, request = "other", None
        with self._lock:
            self._idle.add(sock)
        try:
            request = reader.head()
            with self._lock:
                self._idle.discard(sock)
            if request is None:
                return False
            path = request.path if request.path in self._endpoints else "other"
            response = self._answer(request, reader, sock)
            keep = request.keep_alive and not self._stop.is_set() and isinstance(response.body, bytes)
        except RefusedRequestError as error:
            response, keep = refusal(error), False
        self._on_answer(path, response.status)
        self._send(sock, response, keep_alive=keep, bodiless=request is not None and request.method == "HEAD")
        if response.status >= 400 and not keep:
            sock.shutdown(socket.SHUT_WR)
            reader.discard(LINGER_BYTES, LINGER_SECONDS)
        return keep

    def _answer(self, request: Request, reader: RequestReader, sock: socket.socket) -> Response:
        endpoint = self._endpoints.get(request.path)
        self._check_origin(request)
        if endpoint is None or not endpoint.open:
            self._check_token(request)
        if endpoint is None:
            raise RefusedRequestError(404, f"there are {', '.join(sorted(self._endpoints))}")
        if request.method != endpoint.method and (request.method, endpoint.method) != ("HEAD", "GET"):
            allowed = "GET, HEAD" if endpoint.method == "GET" else endpoint.method
            raise RefusedRequestError(405, f"accepts {allowed}", {"Allow": allowed})
        return endpoint.answer(request, self._body(request, endpoint, reader, sock))

    def _body(self, request: Request, endpoint: Endpoint, reader: RequestReader, sock: socket.socket) -> bytes:
        if request.length is None and endpoint.method == "POST":
            raise RefusedRequestError(411, "state the length of the body (Content-Length)")
        length = request.length or 0
        if length > endpoint.largest_body:
            raise RefusedRequestError(413, f"the body is larger than {endpoint.largest_body} bytes")
        if request.headers.get("expect", "").lower() == "100-continue" and length:
            sock.settimeout(SEND_SECONDS)
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return reader.body(length)

    def _check_origin(self, request: Request) -> None:
        """Rejects requests that a page of another site makes a browser send."""
        host = request.headers.get("host", "")
        if self._access.token is None and self._access.hosts and host:
            name = host.lower() if host.endswith("]") else re.sub(r":\d*$", "", host.lower())
            if name not in self._access.hosts:
                raise RefusedRequestError(403, "the Host header is not that of this machine")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise RefusedRequestError(403, "comes from a page of another site")

    def _check_token(self, request: Request) -> None:
        token = self._access.token
        if token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        candidates = [given.strip() if scheme.lower() == "bearer" else "", request.query.get("token", "")]
        cookies = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
        candidates += [value for name, _, value in cookies if name == COOKIE]
        if not any(hmac.compare_digest(value.encode(), token.encode()) for value in candidates):
            headers = {"WWW-Authenticate": "Bearer"}
            raise RefusedRequestError(401, "needs the header Authorization: Bearer TOKEN", headers)

    def _send(self, sock: socket.socket, response: Response, *, keep_alive: bool, bodiless: bool) -> None:
        sock.settimeout(SEND_SECONDS)
        head = _head(response, keep_alive=keep_alive)
        if isinstance(response.body, bytes):
            sock.sendall(head if bodiless else head + response.body)
            return
        with contextlib.closing(response.body) as pieces:
            sock.sendall(head)
            for piece in () if bodiless else pieces:
                sock.sendall(piece)

    def _end(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.pop(sock, None)
            self._idle.discard(sock)
        with contextlib.suppress(OSError):
            sock.close()
        self._places.release()


def _head(response: Response, *, keep_alive: bool) -> bytes:
    lines: List[str] = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"Content-Type: {response.content_type}", "Cache-Control: no-store", "X-Content-Type-Options: nosniff"]
    if isinstance(response.body, bytes):
        lines.append(f"Content-Length: {len(response.body)}")
    lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _whole(response: Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
