"""The JetPack releases, with the L4T and TensorRT of each. The only table of them.

Sources: NVIDIA's JetPack archive and release notes (developer.nvidia.com/embedded/jetpack-archive), and the
table of L4T releases in jetson-containers. Previews count as releases of their line.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

Version = Tuple[int, ...]


class Release(NamedTuple):
    """One release of JetPack.

    Attributes:
        version: ``6.2.1``, or only its line, ``6.2``, if the L4T is newer than this table.
        tensorrt: The TensorRT that it installs, (major, minor, patch).
        exact: Whether the version is that of a release, not only of its line.
    """

    version: str
    tensorrt: Version
    exact: bool = True

    @property
    def line(self) -> Tuple[int, int]:
        """(major, minor): the releases of a line differ in fixes, and target profiles name the line."""
        major, minor = self.version.split(" ")[0].split(".")[:2]
        return int(major), int(minor)

    @property
    def line_text(self) -> str:
        """``6.2``."""
        return "{}.{}".format(*self.line)


# JetPack, its TensorRT, its L4T releases; oldest first.
_ROWS: Tuple[Tuple[str, Version, str], ...] = (
    ("4.4", (7, 1, 3), "32.4.3"),
    ("4.4.1", (7, 1, 3), "32.4.4"),
    ("4.5", (7, 1, 3), "32.5.0"),
    ("4.5.1", (7, 1, 3), "32.5.1 32.5.2"),
    ("4.6", (8, 0, 1), "32.6.1"),
    ("4.6.1", (8, 2, 1), "32.7.1"),
    ("4.6.2", (8, 2, 1), "32.7.2"),
    ("4.6.3", (8, 2, 1), "32.7.3"),
    ("4.6.4", (8, 2, 1), "32.7.4"),
    ("4.6.5", (8, 2, 1), "32.7.5"),
    ("4.6.6", (8, 2, 1), "32.7.6"),
    ("5.0 DP", (8, 4, 0), "34.1.0"),
    ("5.0.1 DP", (8, 4, 0), "34.1.1"),
    ("5.0.2", (8, 4, 1), "35.1.0"),
    ("5.1", (8, 5, 2), "35.2.1"),
    ("5.1.1", (8, 5, 2), "35.3.1"),
    ("5.1.2", (8, 5, 2), "35.4.1"),
    ("5.1.3", (8, 5, 2), "35.5.0"),
    ("5.1.4", (8, 5, 2), "35.6.0"),
    ("5.1.5", (8, 5, 2), "35.6.1 35.6.2"),
    ("5.1.6", (8, 5, 2), "35.6.4"),
    ("6.0 DP", (8, 6, 2), "36.2.0"),
    ("6.0", (8, 6, 2), "36.3.0"),
    ("6.1", (10, 3, 0), "36.4.0"),
    ("6.1.1", (10, 3, 0), "36.4.2"),
    ("6.2", (10, 3, 0), "36.4.3"),
    ("6.2.1", (10, 3, 0), "36.4.4 36.4.7"),
    ("6.2.2", (10, 3, 0), "36.5.0"),
    ("7.0", (10, 13, 3), "38.2.0 38.2.1 38.2.2"),
    ("7.1", (10, 13, 3), "38.4.0"),
    ("7.2", (10, 16, 2), "39.2.0"),
    ("7.2.1", (10, 16, 2), "39.2.1"),
)
OLDEST_TENSORRT = (8, 0, 0)  # of the lines that are targets

RELEASES: Tuple[Release, ...] = tuple(Release(version, tensorrt) for version, tensorrt, _ in _ROWS)
_BY_L4T: Dict[Version, Release] = {
    tuple(int(part) for part in l4t.split(".")): Release(version, tensorrt)
    for version, tensorrt, releases in _ROWS
    for l4t in releases.split()
}


def release_of_l4t(l4t: str) -> Optional[Release]:
    """The JetPack of an L4T release such as ``36.4.3``.

    Returns:
        The release; for a later fix of a known L4T line only the JetPack's line; None for any other.
    """
    numbers = _numbers(l4t)
    if numbers is None:
        return None
    if numbers in _BY_L4T:
        return _BY_L4T[numbers]
    known = [(version, release) for version, release in _BY_L4T.items() if version[:2] == numbers[:2]]
    newest = max(known, default=None, key=lambda item: item[0])
    if newest is None or newest[0] > numbers:
        return None
    return Release(newest[1].line_text, newest[1].tensorrt, exact=False)


def tensorrt_of_jetpack(version: Version) -> Optional[Tuple[int, int]]:
    """The TensorRT that a JetPack installs, as (major, minor).

    Args:
        version: (major, minor) for a line, meaning its newest release; (major, minor, patch) for one release; an
            unknown release counts as the newest of its line.

    Returns:
        None if there is no such line, or its TensorRT is older than `OLDEST_TENSORRT`.
    """
    line = [release for release in RELEASES if release.line == version[:2] and release.tensorrt >= OLDEST_TENSORRT]
    if not line:
        return None
    text = ".".join(map(str, version))
    exact = [release for release in line if len(version) > 2 and release.version.split(" ")[0] == text]
    major, minor, _ = (exact or line)[-1].tensorrt
    return major, minor


def jetpack_lines() -> List[Tuple[int, int]]:
    """The lines that are targets, oldest first."""
    return list(dict.fromkeys(release.line for release in RELEASES if release.tensorrt >= OLDEST_TENSORRT))


def full_tensorrt_version(version: Tuple[int, int]) -> str:
    """``8.5.2`` for (8, 5): the patch that a JetPack installs; if none installs it, the version's first release."""
    patches = [release.tensorrt[2] for release in RELEASES if release.tensorrt[:2] == version]
    return f"{version[0]}.{version[1]}.{max(patches, default=0)}"


def _numbers(l4t: str) -> Optional[Version]:
    parts = l4t.split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        return None
    return tuple(int(part) for part in (*parts, "0")[:3])
