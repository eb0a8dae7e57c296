"""Published weights: downloaded once into a cache folder, resumed if interrupted, checked against their hash."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from googlenet_deploy.device.files import CACHE_VARIABLE, cache_folder, reason
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import DownloadError, OutputError

BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Published:
    """Weights on a public server.

    Attributes:
        url: Their address.
        algorithm: Name of the hash, as hashlib knows it.
        digest: The beginning of the file's hash, in hexadecimal.
    """

    url: str
    algorithm: str
    digest: str

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


# BVLC's readme.md of the model zoo states the SHA-1; torchvision writes the start of the SHA-256 into the name.
PUBLISHED: dict[str, Published] = {
    "bvlc": Published(
        "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
        "sha1",
        "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
    ),
    "torchvision": Published("https://download.pytorch.org/models/googlenet-1378be20.pth", "sha256", "1378be20"),
}


def fetch(name: str) -> Path:
    """The local file of published weights, downloaded if it is not in the cache yet.

    An interrupted download is resumed.

    Raises:
        DownloadError: There is no network, or the downloaded or cached file is not the published one.
        OutputError: The cache folder cannot be written.
    """
    published = PUBLISHED[name]
    target = cache_folder() / published.file_name
    try:
        if target.exists():
            _check_cached(published, target)
        else:
            partial = target.with_name(target.name + ".part")
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(published, partial, target)
            _check(published, partial)
            partial.replace(target)
    except OSError as error:
        raise OutputError(target, f"cannot be written or read: {reason(error)}", f"set {CACHE_VARIABLE}") from error
    return target


def _download(published: Published, partial: Path, target: Path) -> None:
    request = urllib.request.Request(published.url)  # noqa: S310 - the URLs are the constants above
    have = partial.stat().st_size if partial.exists() else 0
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
            resumed = response.status == PARTIAL_CONTENT
            length = response.headers.get("Content-Length")
            total = int(length) + (have if resumed else 0) if length else None
            with partial.open("ab" if resumed else "wb") as stream:
                done = _copy(response, stream, published.file_name, have if resumed else 0, total)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:
            return  # the file is already complete; the hash decides
        raise _failure(published, target, f"the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _failure(published, target, str(getattr(error, "reason", error) or type(error).__name__)) from error
    if total is not None and done < total:
        raise _failure(published, target, f"the connection ended after {done} of {total} bytes; run it again to resume")


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], label: str, done: int, total: int | None) -> int:
    with progress(f"download {label}", total) as advance:
        advance(done)
        while True:
            try:
                block = response.read(BLOCK_BYTES)
            except http.client.IncompleteRead as error:
                block = error.partial
            if not block:
                return done
            stream.write(block)
            done += len(block)
            advance(len(block))


def _check(published: Published, path: Path) -> None:
    digest = _digest(published, path)
    if not digest.startswith(published.digest):
        with suppress(OSError):
            path.unlink()
        raise DownloadError(
            f"what {published.url} sent has the {published.algorithm} {digest}, "
            f"not the published {published.digest}; it was deleted",
            "try again, or fetch the file by other means and pass its path to --weights",
        )


def _check_cached(published: Published, path: Path) -> None:
    digest = _digest(published, path)
    if not digest.startswith(published.digest):
        raise DownloadError(
            f"{path} has the {published.algorithm} {digest}, not the {published.digest} of {published.url}",
            "delete it, so that it is downloaded again, or pass its path to --weights",
        )


def _digest(published: Published, path: Path) -> str:
    digest = hashlib.new(published.algorithm)
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def _failure(published: Published, target: Path, cause: str) -> DownloadError:
    return DownloadError(
        f"{published.url} could not be downloaded: {cause}",
        f"fetch it on a machine with a network and put it at {target}, or pass its path to --weights",
    )
