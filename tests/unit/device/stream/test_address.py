"""How sources are written, what a server on loopback says of them, and containers that are cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from googlenet_deploy.device.stream.address import (
    ask_server,
    camera_index,
    csi_index,
    device_path,
    is_address,
    is_camera,
    is_http,
    local_path,
    never_ends,
)
from googlenet_deploy.device.stream.container import missing_bytes

PAGES = {
    "/photo.jpg": ("image/jpeg", b"\xff\xd8\xff", True),
    "/video.mp4": ("video/mp4", b"0" * 1000, True),
    "/snapshots": ("multipart/x-mixed-replace; boundary=x", b"--x\r\n", False),
    "/endless": ("application/octet-stream", b"", False),
    "/open.m3u8": ("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:4,\na.ts\n", True),
    "/closed.m3u8": ("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n", True),
    "/master.m3u8": ("audio/x-mpegurl", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", True),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as PAGES says; /secret needs a password."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path = self.path
        if path == "/secret":
            if self.headers.get("Authorization") != "Basic dXNlcjpwQHNz":  # user:p@ss
                self.send_error(401)
                return
            path = "/video.mp4"
        if path not in PAGES:
            self.send_error(404)
            return
        kind, content, sized = PAGES[path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if sized:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[str]:
    """An HTTP server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize(
    ("path", "has_end"),
    [
        ("/photo.jpg", True), ("/video.mp4", True), ("/snapshots", False), ("/endless", None), ("/open.m3u8", False),
        ("/closed.m3u8", True), ("/master.m3u8", None),
    ],
)  # fmt: skip
def test_what_has_an_end(server: str, path: str, has_end: bool | None) -> None:
    answer = ask_server(f"http://{server}{path}", timeout=5)
    assert (answer.has_end, answer.problem) == (has_end, "")
    assert answer.picture == (b"\xff\xd8\xff" if path == "/photo.jpg" else None)


def test_refusals_are_told(server: str) -> None:
    assert ask_server(f"http://{server}/none", timeout=5).problem == "the server answers 404 Not Found"
    assert "401" in ask_server(f"http://{server}/secret", timeout=5).problem
    assert ask_server(f"http://user:p%40ss@{server}/secret", timeout=5).has_end is True
    assert "does not answer" in ask_server("http://127.0.0.1:1/x", timeout=5).problem
    assert "does not answer" in ask_server("http://[bad/x", timeout=5).problem


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("camera:0", 0),
        ("camera://1", 1),
        ("/dev/video2", 2),
        ("v4l2:///dev/video3", 3),
        ("v4l2://4", 4),
        ("csi:0", None),
    ],
)
def test_cameras(name: str, index: int | None) -> None:
    assert camera_index(name) == index
    assert is_camera(name)
    assert never_ends(name)
    assert not is_address(name)


def test_csi_cameras_and_devices() -> None:
    assert [csi_index(name) for name in ("csi:0", "csi://1", "csi://x", "camera:0")] == [0, 1, None, None]
    assert device_path("v4l2:///dev/v4l/by-id/usb-Cam") == "/dev/v4l/by-id/usb-Cam"
    assert device_path("/dev/video-front") == "/dev/video-front"


def test_addresses() -> None:
    assert all(never_ends(name) for name in ("rtsp://h/x", "RTP://@:1234", "udp://h:1", "srt://h:1"))
    assert not any(never_ends(name) for name in ("http://h/x", "HTTPS://h/x", "ftp://h/x", "clip.mp4", "file://x"))
    assert is_http("HTTPS://h/x")
    assert not is_address("file:///x.mp4")


def test_file_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.mp4").touch()
    (tmp_path / "100%20.mp4").touch()
    assert local_path(f"file://{tmp_path}/a%20b.mp4") == f"{tmp_path}/a b.mp4"
    assert local_path(f"file://localhost{tmp_path}/a%20b.mp4") == f"{tmp_path}/a b.mp4"
    assert local_path("file://a b.mp4") == "a b.mp4"
    assert local_path("file://100%20.mp4") == "100%20.mp4"
    assert local_path("x.mp4") == "x.mp4"


def box(kind: bytes, length: int, stated: int | None = None) -> bytes:
    return (length if stated is None else stated).to_bytes(4, "big") + kind + bytes(length - 8)


LARGE = (1).to_bytes(4, "big") + b"mdat" + (5000).to_bytes(8, "big") + bytes(100)
SEGMENT = b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67"


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"RIFF" + (92).to_bytes(4, "little") + bytes(92), 0),
        (b"RIFF" + (93).to_bytes(4, "little") + bytes(93), 0),  # without its padding byte
        (b"RIFF" + (192).to_bytes(4, "little") + bytes(92), 100),
        (b"RIFF" + (92).to_bytes(4, "little") + bytes(92) + b"appended", 0),
        (b"RIFF" + bytes(96), None),  # a size that was never filled in
        (box(b"ftyp", 24) + box(b"mdat", 500) + box(b"moov", 80), 0),
        (box(b"ftyp", 24) + box(b"moov", 80) + box(b"mdat", 500, 900), 400),
        (box(b"ftyp", 24) + box(b"mdat", 500, 0), 0),  # up to the end of the file
        (box(b"ftyp", 24) + LARGE, 5000 - len(LARGE)),
        (box(b"ftyp", 24) + box(b"mdat", 500, 3), None),
        (SEGMENT + b"\x83abc", 0),
        (SEGMENT + b"\x83a", 2),
        (SEGMENT + b"\xff" + bytes(20), None),  # unknown, as a recorder leaves it
        (b"\x47" + bytes(187), None),  # a transport stream
        (b"", None),
    ],
)
def test_bytes_that_a_container_lacks(tmp_path: Path, content: bytes, missing: int | None) -> None:
    path = tmp_path / "clip"
    path.write_bytes(content)
    assert missing_bytes(path) == missing


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert missing_bytes(tmp_path / "none") is None
