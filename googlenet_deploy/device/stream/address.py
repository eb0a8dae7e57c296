"""The syntax of video sources on the command line, and which of them have an end.

Cameras: ``camera:0``, ``/dev/video0`` and ``v4l2:///dev/video0``; a Jetson's CSI cameras: ``csi:0`` and ``csi://0``, as
in jetson-utils. ``file://`` is a file. An address has an end if its server states a length or sends a picture, or its
playlist is closed (RFC 8216, ``EXT-X-ENDLIST``); RTSP, RTP and multipart pictures have no end.
"""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple, Optional

from googlenet_deploy.errors import InputError

TIMEOUT_SECONDS = 10.0
LARGEST_PICTURE = 64 * 2**20
LARGEST_PLAYLIST = 2**20
_CAMERA = re.compile(r"(?:camera:(?://)?|(?:v4l2://)?/dev/video|v4l2://)(\d{1,3})")
_CSI = re.compile(r"csi:(?://)?(\d{1,3})")
_DEVICE = re.compile(r"(?:v4l2://)?(/dev/(?:v4l/|video).+)")
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtp", "udp", "rtmp", "rtmps", "srt", "mms")
_PLAYLISTS = ("mpegurl", "dash+xml")


def camera_index(name: str) -> Optional[int]:
    """2 for ``camera:2`` or ``/dev/video2``; None for anything else."""
    found = _CAMERA.fullmatch(name)
    return int(found.group(1)) if found else None


def csi_index(name: str) -> Optional[int]:
    """1 for ``csi:1`` or ``csi://1``; None for anything else."""
    found = _CSI.fullmatch(name)
    return int(found.group(1)) if found else None


def device_path(name: str) -> Optional[str]:
    """The path of a camera given as a path, such as ``/dev/v4l/by-id/usb-...``; None for anything else."""
    found = _DEVICE.fullmatch(name)
    return found.group(1) if found else None


def is_camera(name: str) -> bool:
    """Whether a name is a camera of this machine."""
    return any(value is not None for value in (camera_index(name), csi_index(name), device_path(name)))


def is_pipeline(name: str) -> bool:
    """Whether a name is a GStreamer pipeline."""
    return " ! " in name and not Path(name).exists()


def is_address(name: str) -> bool:
    """Whether a name is a network address."""
    return "://" in name and not is_camera(name) and not is_pipeline(name) and not name.lower().startswith("file://")


def never_ends(name: str) -> bool:
    """Whether a name alone implies endless frames: a camera, a pipeline, or a protocol of live streams."""
    return is_camera(name) or is_pipeline(name) or (is_address(name) and _scheme(name) in _LIVE_SCHEMES)


def _scheme(name: str) -> str:
    return name.partition("://")[0].lower()


def is_http(name: str) -> bool:
    """Whether a name is an ``http://`` or ``https://`` address."""
    return is_address(name) and _scheme(name) in ("http", "https")


def local_path(name: str) -> str:
    """The path in ``file://``: absolute (``file:///x``) or relative (``file://x``); other names are unchanged."""
    if not name.lower().startswith("file://"):
        return name
    path = name[len("file://") :]
    if path.startswith("localhost/"):
        path = path[len("localhost") :]
    return path if Path(path).exists() else urllib.parse.unquote(path)


class HttpAnswer(NamedTuple):
    """A server's answer for an address.

    Attributes:
        has_end: Whether the content has an end; None if the server does not say.
        picture: The content of a picture; None for anything else.
        problem: Why there was no answer; "" if there was one.
    """

    has_end: Optional[bool]
    picture: Optional[bytes] = None
    problem: str = ""


def ask_server(address: str, timeout: float = TIMEOUT_SECONDS) -> HttpAnswer:
    """Asks an HTTP server about an address; a failure is returned, not raised, since FFmpeg supports more servers.

    Args:
        address: ``http://...`` or ``https://...``, with ``user:password@`` if needed.
        timeout: Seconds.

    Raises:
        InputError: It is a picture of more than `LARGEST_PICTURE` bytes.
    """
    try:
        with urllib.request.urlopen(_request(address), timeout=timeout) as reply:  # noqa: S310 - http and https only
            return _answer(address, reply)
    except urllib.error.HTTPError as error:
        return HttpAnswer(None, problem=f"the server answers {error.code} {error.reason}")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        return HttpAnswer(None, problem=f"the server does not answer: {' '.join(str(why).split())}")


def _request(address: str) -> urllib.request.Request:
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    plain = urllib.parse.urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(plain, headers={"User-Agent": "googlenet-deploy"})  # noqa: S310 - as above
    if user:
        token = base64.b64encode(urllib.parse.unquote(user).encode("utf-8")).decode("ascii")
        request.add_header("Authorization", f"Basic {token}")
    return request


def _answer(address: str, reply: Any) -> HttpAnswer:  # noqa: ANN401 - http.client.HTTPResponse
    kind = str(reply.headers.get("Content-Type", "")).lower()
    if kind.startswith("multipart/"):
        return HttpAnswer(False)
    if kind.startswith("image/"):
        data = reply.read(LARGEST_PICTURE + 1)
        if len(data) > LARGEST_PICTURE:
            raise InputError(address, f"is a picture of more than {LARGEST_PICTURE // 2**20} MiB")
        return HttpAnswer(True, picture=data)
    if any(word in kind for word in _PLAYLISTS) or urllib.parse.urlsplit(address).path.lower().endswith(".m3u8"):
        return HttpAnswer(_playlist_has_end(reply.read(LARGEST_PLAYLIST)))
    return HttpAnswer(True if reply.headers.get("Content-Length") else None)


def _playlist_has_end(data: bytes) -> Optional[bool]:
    """Whether a playlist has an end; None for a list of playlists, since only its members state it."""
    if b"#EXTINF" in data:
        return b"#EXT-X-ENDLIST" in data
    return None
