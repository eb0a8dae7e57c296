"""The live page: the newest frame with its classes, sent to every viewer as fast as that viewer receives them.

Frames go out as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) whose data is JSON
with the frame as JPEG, so that a frame and its classes are always shown together.
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

from googlenet_deploy.device.resources import read_resource
from googlenet_deploy.device.serve.request import RefusedRequestError
from googlenet_deploy.device.serve.server import Response

if TYPE_CHECKING:
    from PIL import Image

    from googlenet_deploy.device.stream.answers import Answer

MOST_VIEWERS = 8
SHORTEST_INTERVAL = 0.066  # seconds between two events: 15 frames per second are smooth enough
KEEP_ALIVE_SECONDS = 2.0  # after which a comment is sent, to detect whether the viewer is still connected
LONGEST_SIDE = 640
JPEG_QUALITY = 80
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LiveView:
    """The newest answer, and its viewers.

    Args:
        model: The title of the page.
        source: The camera or video; "" if images arrive by POST only.
        figures: Rate and latency for the page.
        stop: Ends every view.

    Attributes:
        problem: Why there are no more frames; "" while there may be.
        broken: The same if that is a fault, not the end of a file.
    """

    def __init__(
        self, model: str, source: str, figures: Callable[[], Mapping[str, Any]], stop: threading.Event
    ) -> None:
        self._about = {"model": model, "source": source}
        self._figures, self._stop = figures, stop
        self._changed = threading.Condition()
        self._event = b""
        self._number = self._viewers = 0
        self._shown = 0.0
        self.problem = self.broken = ""

    def publish(self, answer: Answer, seconds: float, image: Optional[Image.Image] = None) -> None:
        """Shows an answer if there are viewers and the previous answer has been shown long enough.

        Args:
            answer: The classes.
            seconds: From the frame's arrival to the answer.
            image: The frame.
        """
        now = time.monotonic()
        if not self._viewers or now - self._shown < SHORTEST_INTERVAL:
            return
        self._shown = now
        row: Dict[str, Any] = {**answer.row(), "latency_ms": 1000 * seconds, **self._figures()}
        if image is not None:
            row["frame"] = jpeg_base64(image)
        self._set(row)

    def end(self, problem: str) -> None:
        """Shows, also to later viewers, that the source has ended or broken."""
        self.problem = problem
        self._set({"problem": problem})

    def page(self, nonce: str) -> Response:
        """The page itself.

        Args:
            nonce: A new random value, which only the page's own script and style have.
        """
        # No character of a name may end the data block.
        about = json.dumps(self._about).replace("<", "\\u003c")
        text = read_resource("serve/page.html").replace("{nonce}", nonce).replace("{about}", about)
        headers = {"Content-Security-Policy": _POLICY.format(nonce=nonce), "Referrer-Policy": "no-referrer"}
        return Response(200, text.encode(), "text/html; charset=utf-8", headers)

    def events(self) -> Response:
        """The response that streams the answers as they arrive.

        Raises:
            RefusedRequestError: There are too many viewers.
        """
        with self._changed:
            if self._viewers >= MOST_VIEWERS:
                raise RefusedRequestError(503, f"{MOST_VIEWERS} viewers are connected already", {"Retry-After": "5"})
        return Response(200, _View(self), "text/event-stream; charset=utf-8")

    @property
    def stopped(self) -> bool:
        """Whether the server is stopping."""
        return self._stop.is_set()

    def wake(self) -> None:
        """Wakes every view, so that it notices that the server is stopping."""
        with self._changed:
            self._changed.notify_all()

    def _set(self, row: Mapping[str, Any]) -> None:
        event = b"data: " + json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n\n"
        with self._changed:
            self._event, self._number = event, self._number + 1
            self._changed.notify_all()

    def newer(self, seen: int) -> Optional[Tuple[int, bytes]]:
        """Waits for the newest event and its number; returns a comment after a while without one, None at the end.

        Args:
            seen: The number that this viewer has seen.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen or self._stop.is_set(), KEEP_ALIVE_SECONDS)
            if self._stop.is_set():
                return None
            return self._number, self._event if self._number > seen else b": waiting\n\n"

    def enter(self) -> int:
        """Adds a viewer; returns the number before the newest as already seen, so that the newest is shown at once."""
        with self._changed:
            self._viewers += 1
            return max(0, self._number - 1)

    def leave(self) -> None:
        """Removes a viewer."""
        with self._changed:
            self._viewers -= 1


class _View:
    """The events for one viewer; the first piece is sent at once, so that the page knows that it is connected."""

    def __init__(self, live: LiveView) -> None:
        self._live, self._seen = live, live.enter()
        self._begun = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return b": connected\n\n"
        found = self._live.newer(self._seen)
        if found is None:
            raise StopIteration
        self._seen = found[0]
        return found[1]

    def close(self) -> None:
        """Ends the view; may be called again."""
        if not self._closed:
            self._closed = True
            self._live.leave()


def jpeg_base64(image: Image.Image) -> str:
    """A frame, scaled down if it is large, as a JPEG file in Base64."""
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return base64.b64encode(jpeg(small, JPEG_QUALITY)).decode("ascii")


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encodes a picture as a JPEG file."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()
