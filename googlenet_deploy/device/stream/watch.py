"""A watched folder: yields each image file once, when it is complete.

The folder is polled, which also works on network and USB file systems, where notifications do not. A file counts as
complete if neither its size nor its time changed between two polls; a file that changes later is yielded again.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.images.folders import search_folder
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import InputError

INTERVAL_SECONDS = 0.3

Signature = Tuple[int, int]  # size and time of the last change, in ns


class WatchedFolder:
    """New images in a folder, as they arrive; iterates until `stop` is set.

    `images/folders.py` decides what is an image, so hidden files, such as other programs' temporary files, are ignored,
    as are those that existed before.

    Args:
        folder: The folder; its subfolders are watched too.
        stop: Ends the iteration.
        interval: Seconds between two polls.

    Attributes:
        present: Number of images that existed before.

    Raises:
        InputError: There is no such folder, or it cannot be read.
    """

    live = False  # files wait
    frames = None

    def __init__(self, folder: PathLike, stop: threading.Event, interval: float = INTERVAL_SECONDS) -> None:
        self.folder, self.stop, self.interval = Path(folder), stop, interval
        if not self.folder.is_dir():
            raise InputError(folder, "is not a folder to watch")
        self._taken: Dict[str, Signature] = self._look()
        self._last: Dict[str, Signature] = dict(self._taken)
        self.present = len(self._taken)

    def __iter__(self) -> Iterator[ImageSource]:
        """The images.

        Raises:
            InputError: The folder is gone.
        """
        while not self.stop.is_set():
            for name in self.ready():
                yield ImageSource(name)
            self.stop.wait(self.interval)

    def ready(self) -> Iterator[str]:
        """The files that became complete since the last poll, oldest first."""
        now = self._look()
        complete = [name for name, signature in now.items() if self._is_new(name, signature)]
        self._last = now
        for name in sorted(complete, key=lambda item: (now[item][1], item)):
            self._taken[name] = now[name]
            yield name
        for name in set(self._taken) - set(now):  # a file of that name may appear again
            del self._taken[name]

    def left_over(self) -> List[str]:
        """The images that were never yielded because they are empty, still growing, or arrived at the end; by name."""
        return sorted(name for name, signature in self._look().items() if self._taken.get(name) != signature)

    def _is_new(self, name: str, signature: Signature) -> bool:
        return signature[0] > 0 and self._last.get(name) == signature and self._taken.get(name) != signature

    def _look(self) -> Dict[str, Signature]:
        found: Dict[str, Signature] = {}
        try:
            images = search_folder(self.folder).images
        except OSError as error:
            raise InputError(self.folder, f"cannot be watched any more: {reason(error)}") from error
        for path in images:
            try:
                status = Path(path).stat()
            except OSError:
                continue  # deleted since the listing
            found[path] = (status.st_size, status.st_mtime_ns)
        return found
