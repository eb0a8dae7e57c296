"""What a server answers, and what it refuses: malformed, hostile and slow requests, over real connections."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.serve import request, server, service
from googlenet_deploy.errors import DeviceError, InputError, UsageError

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (the extra runtime installs it)")

RED, GREY = (250, 20, 10), (128, 128, 128)
HOST = b"Host: 127.0.0.1\r\n"


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /classify HTTP/1.1", HOST.strip(), b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM"])
def test_an_image_is_classified(server: Any, picture: Callable[..., bytes], form: str) -> None:
    status, headers, body = server.ask("POST", "/classify", picture(RED, form=form))
    answer = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert answer["classes"][0]["name"] == "red"
    assert len(answer["classes"]) == 3
    assert sum(entry["probability"] for entry in answer["classes"]) == pytest.approx(1, abs=1e-5)
    assert 0 < answer["latency_ms"] < 20_000


def test_one_connection_carries_many_requests(server: Any, picture: Callable[..., bytes]) -> None:
    last = post(picture((5, 30, 255)), b"Connection: close")
    answers = server.raw(post(picture(RED)) + post(picture((0, 240, 20))) + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    places = [answers.index(b'"name": "%s", "probability": 0.9' % name) for name in (b"red", b"green", b"blue")]
    assert places == sorted(places)


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(server: Any, picture: Callable[..., bytes]) -> None:
    answer = server.raw(post(picture(RED), b"Expect: 100-continue", b"Connection: close"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"\r\n", 411),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: -3\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 0x10\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\nabc", 413),
        (b"POST /classify HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 400),
        (b"GET /classify HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"DELETE /metrics HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"BREW /stream HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", 413),
        (b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /stream/../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET //etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET file:///etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET /healthz\r\n\r\n", 400),
        (b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n", 400),
        (b"GET /healthz?" + b"&".join(b"a%d=1" % i for i in range(40)) + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Origin: http://evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Origin: null\r\n\r\n", 403),
    ],
)
def test_what_is_wrong_is_refused_and_the_connection_closed(server: Any, data: bytes, status: int) -> None:
    answer = server.raw(data)
    assert status_of(answer) == status
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"root:" not in answer
    assert "error" in json.loads(answer.rpartition(b"\r\n\r\n")[2])


def test_rubbish_after_a_request_is_refused_after_its_answer(server: Any, picture: Callable[..., bytes]) -> None:
    answers = server.raw(post(picture(RED)) + b"\x00\xff rubbish \r\n\r\n" + post(picture(RED)))
    assert status_of(answers) == 200
    assert answers.count(b"HTTP/1.1 200") == 1
    assert answers.count(b"HTTP/1.1 400") == 1


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels in a few hundred kilobytes."""
    rows = zlib.compressobj(9)
    line = bytes(side + 1)
    data = b"".join(rows.compress(line) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"not an image", 415, "send a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "send a JPEG"),
        (b"--boundary\r\nContent-Disposition: form-data\r\n\r\n", 415, "--data-binary"),
        (b"\x89PNG\r\n\x1a\nrubbish", 422, "damaged|known format"),
        (b"\xff\xd8\xff\xe0" + bytes(200), 422, "damaged|known format"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", 422, ""),
        (bomb(7000), 422, "49000000|7000 x 7000"),
    ],
)
def test_what_is_no_usable_image_is_refused(server: Any, body: bytes, status: int, words: str) -> None:
    found, _, answer = server.ask("POST", "/classify", body)
    assert found == status, answer
    assert any(word in json.loads(answer)["error"] for word in words.split("|"))


def test_a_truncated_body_is_refused_and_the_next_client_served(server: Any, picture: Callable[..., bytes]) -> None:
    whole = post(picture(RED))
    assert status_of(server.raw(whole[:-10], shut=True)) == 408
    assert server.raw(whole[:30], shut=True).startswith(b"HTTP/1.1 408")
    assert server.ask("POST", "/classify", picture(RED))[0] == 200


def test_slow_clients_are_cut_off(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(request, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(request, "IDLE_SECONDS", 0.3)
    start = time.monotonic()
    assert server.raw(b"") == b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(20):  # a header now and then does not keep it alive
            try:
                sock.sendall(b"X: y\r\n")
            except OSError:
                break
            time.sleep(0.05)
        assert sock.recv(4096).startswith(b"HTTP/1.1 408") or time.monotonic() - start < 5
    assert status_of(server.raw(post(b"a" * 100)[:-50])) == 408
    assert time.monotonic() - start < 8


def test_too_many_connections_are_turned_away(colour_model: Path, serve: Callable[..., Any]) -> None:
    with serve(colour_model, max_connections=3) as client:
        held = [socket.create_connection(("127.0.0.1", client.port), timeout=5) for _ in range(3)]
        for sock in held:
            sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        answer = client.raw(b"")
        assert status_of(answer) == 503
        assert b"Retry-After: 1" in answer
        held[0].close()
        deadline = time.monotonic() + 5
        while status_of(client.raw(b"GET /healthz HTTP/1.0\r\n\r\n")) != 200:
            assert time.monotonic() < deadline
        for sock in held[1:]:
            sock.close()


def test_requests_under_way_are_answered_when_it_stops(
    colour_model: Path, serve: Callable[..., Any], picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = service.preprocess

    def slow(*arguments: Any) -> Any:
        begun.set()
        go_on.wait(5)
        return real(*arguments)

    monkeypatch.setattr(service, "preprocess", slow)
    found: list[int] = []
    with serve(colour_model) as client:
        idle = socket.create_connection(("127.0.0.1", client.port), timeout=5)
        asking = threading.Thread(target=lambda: found.append(client.ask("POST", "/classify", picture(RED))[0]))
        asking.start()
        assert begun.wait(5)
        client.stop.set()
        time.sleep(0.05)
        go_on.set()
        asking.join(5)
        start = time.monotonic()
        assert idle.recv(10) == b""
        idle.close()
    assert found == [200]
    assert time.monotonic() - start < 3
    with pytest.raises(OSError, match="refused"):
        client.ask("GET", "/healthz")


def test_fifty_clients_at_once_get_their_own_answers(server: Any, picture: Callable[..., bytes]) -> None:
    colours = {"red": RED, "green": (0, 240, 20), "blue": (5, 30, 255)}
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(4):
            status, _, body = server.ask("POST", "/classify", picture(colours[name]))
            if status != 200 or json.loads(body)["classes"][0]["name"] != name:
                wrong.append(f"{name}: {status} {body!r}")

    before = server.metric('googlenet_deploy_images_total{source="http"}')
    threads = [threading.Thread(target=work, args=(name,)) for name in list(colours) * 17]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert server.metric('googlenet_deploy_images_total{source="http"}') - before == 51 * 4


def test_metrics_and_health(server: Any, picture: Callable[..., bytes]) -> None:
    low = server.metric("googlenet_deploy_low_confidence_images_total")
    assert server.ask("POST", "/classify", picture(GREY))[0] == 200
    assert server.metric("googlenet_deploy_low_confidence_images_total") == low + 1
    status, headers, body = server.ask("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"# energy is not measured: it was switched off (--power none)\n" in body
    assert b'googlenet_deploy_latency_seconds{quantile="0.99"} ' in body
    server.ask("GET", "/no/such/place")
    assert server.metric('googlenet_deploy_http_responses_total{path="other",status="404"}') >= 1
    assert server.ask("GET", "/healthz")[2] == b'{"status": "ok"}\n'
    status, headers, body = server.ask("HEAD", "/healthz")
    assert (status, headers["content-length"], body) == (200, "17", b"")


def test_the_page_runs_its_own_script_alone(server: Any) -> None:
    status, headers, body = server.ask("GET", "/stream")
    policy = headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert status == 200
    assert "default-src 'none'" in policy
    assert body.count(f'nonce="{nonce}"'.encode()) == 3
    assert server.ask("GET", "/stream")[1]["content-security-policy"] != policy
    assert b"{nonce}" not in body


def test_the_network_failing_is_an_error_and_shows_in_health(
    colour_model: Path, serve: Callable[..., Any], picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from googlenet_deploy.device.serve import batching

    def broken(*_: object) -> Any:
        raise DeviceError("CUDA error 700: an illegal memory access")

    with serve(colour_model) as client:
        with monkeypatch.context() as patch:
            patch.setattr(batching, "run_any_batch", broken)
            status, _, body = client.ask("POST", "/classify", picture(RED))
            assert (status, json.loads(body)["error"]) == (500, "CUDA error 700: an illegal memory access")
            assert client.ask("GET", "/healthz")[0] == 503
        assert client.ask("POST", "/classify", picture(RED))[0] == 200
        assert client.ask("GET", "/healthz")[0] == 200
        assert [line for line in client.lines if "requests fail" in line] == [
            "requests fail: CUDA error 700: an illegal memory access"
        ]


def test_a_token_is_needed_where_others_can_connect(
    colour_model: Path, serve: Callable[..., Any], picture: Callable[..., bytes]
) -> None:
    with serve(colour_model, address="0.0.0.0:0") as client:
        token = next(line for line in client.lines if "token" in line).partition("token: ")[2].partition(" ")[0]
        assert len(token) >= 32
        assert client.ask("GET", "/healthz")[0] == 200
        for headers in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": "Bearer "}, {"Cookie": "a=b"}):
            for method, path in (("GET", "/metrics"), ("GET", "/stream"), ("GET", "/stream/events"), ("GET", "/x")):
                status, found, _ = client.ask(method, path, headers=headers)
                assert (status, found["www-authenticate"]) == (401, "Bearer")
            assert client.ask("POST", "/classify", picture(RED), headers)[0] == 401
        right = {"Authorization": f"Bearer {token}", "Host": "jetson.local"}
        assert client.ask("POST", "/classify", picture(RED), right)[0] == 200
        status, found, _ = client.ask("GET", f"/stream?token={token}")
        assert (status, found["location"]) == (303, "/stream")
        cookie = found["set-cookie"].partition(";")[0]
        assert "HttpOnly" in found["set-cookie"]
        assert client.ask("GET", "/stream", headers={"Cookie": f"x=y; {cookie}"})[0] == 200


def test_a_token_of_ones_own(colour_model: Path, serve: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123\n")
    with serve(colour_model, token_file=str(path)) as client:
        assert client.ask("GET", "/metrics")[0] == 401
        headers = {"Authorization": "Bearer 0123456789abcdef0123", "Host": "behind.a.proxy"}
        assert client.ask("GET", "/metrics", headers=headers)[0] == 200
    path.write_text("short")
    with pytest.raises(UsageError, match="16 or more"), serve(colour_model, token_file=str(path)):
        pass
    with pytest.raises(InputError, match="cannot be read"), serve(colour_model, token_file=str(tmp_path / "none")):
        pass


def test_a_port_in_use_is_one_clear_error(server: Any, colour_model: Path, serve: Callable[..., Any]) -> None:
    taken = f"127.0.0.1:{server.port}"
    with (
        pytest.raises(DeviceError, match=f"cannot listen on {taken}: address already in use"),
        serve(colour_model, address=taken),
    ):
        pass


def test_a_header_cannot_be_smuggled_into_an_answer(server: Any) -> None:
    answer = server.raw(b"GET /stream?token=a%0d%0aX-Evil:%20yes HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert status_of(answer) == 200
    assert b"X-Evil" not in answer


def test_every_refusal_has_a_phrase() -> None:
    for status in (400, 401, 403, 404, 405, 408, 411, 413, 415, 422, 431, 500, 503, 505):
        answer = server_head(status)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def server_head(status: int) -> bytes:
    return server._head(server.refusal(request.RefusedRequestError(status, "x")), keep_alive=False)
