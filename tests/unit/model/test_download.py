"""Downloads from a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from googlenet_deploy.errors import DownloadError, OutputError
from googlenet_deploy.model import download
from googlenet_deploy.model.download import Published, cache_folder, fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    cut_after: int | None = None
    ranges: bool = True
    requested: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range") if self.server.ranges else None
        self.server.requested.append(wanted or "all")
        if not self.path.endswith("/net.bin"):
            self.send_error(404, "Not Found")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416, "Range Not Satisfiable")
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.server.cut_after is None else start + self.server.cut_after
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.requested = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def publish(monkeypatch: pytest.MonkeyPatch, server: Server, digest: str = DIGEST[:8], name: str = "net.bin") -> None:
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    monkeypatch.setitem(download.PUBLISHED, "test", Published(url, "sha256", digest))


def test_downloads_once(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server)
    for _ in range(2):
        assert fetch("test").read_bytes() == CONTENT
    assert server.requested == ["all"]
    assert [path.name for path in cache.iterdir()] == ["net.bin"]


def test_goes_on_where_it_was_interrupted(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server)
    server.cut_after = 300_000
    with pytest.raises(DownloadError, match="300000 of 1024000 bytes"):
        fetch("test")
    assert not (cache / "net.bin").exists()
    server.cut_after = None
    assert fetch("test").read_bytes() == CONTENT
    assert server.requested == ["all", "bytes=300000-"]


def test_a_server_without_ranges_starts_afresh(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server)
    cache.mkdir()
    (cache / "net.bin.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch("test").read_bytes() == CONTENT


def test_a_complete_part_file_is_taken(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server)
    cache.mkdir()
    (cache / "net.bin.part").write_bytes(CONTENT)
    assert fetch("test").read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_deleted(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server, digest="00000000")
    with pytest.raises(DownloadError, match="not the published 00000000"):
        fetch("test")
    assert list(cache.iterdir()) == []


def test_another_file_in_the_cache_is_refused_and_kept(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server)
    cache.mkdir()
    (cache / "net.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match=rf"net\.bin has the sha256 \w+, not the {DIGEST[:8]}"):
        fetch("test")
    assert (cache / "net.bin").exists()
    assert server.requested == []


def test_a_missing_file_names_url_and_place(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server, name="other.bin")
    with pytest.raises(DownloadError, match=r"other\.bin.*404") as caught:
        fetch("test")
    assert caught.value.remedy is not None
    assert str(cache / "other.bin") in caught.value.remedy


def test_no_network_names_url_and_place(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(download.PUBLISHED, "test", Published("http://127.0.0.1:9/net.bin", "sha256", DIGEST))
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/net\.bin") as caught:
        fetch("test")
    assert caught.value.remedy is not None
    assert str(cache / "net.bin") in caught.value.remedy


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OutputError):
        fetch("test")


def test_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(download.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "googlenet-deploy"


def test_published_files_are_those_of_the_references() -> None:
    assert download.PUBLISHED["torchvision"].file_name == "googlenet-1378be20.pth"
    assert download.PUBLISHED["bvlc"].digest == "405fc5acd08a3bb12de8ee5e23a96bec22f08204"
