"""Full TensorRT versions of the JetPacks, which stand in the head of calibration caches."""

from __future__ import annotations

from googlenet_deploy.device.targets.target import Target

# NVIDIA's JetPack release notes.
_PATCHES = {(8, 2): 1, (8, 5): 2, (8, 6): 2, (10, 3): 0, (10, 13): 3, (10, 16): 2}
_LAST_MAJOR = 10  # TensorRT 11 has no implicit INT8


def full_version(version: tuple[int, int]) -> str:
    """``8.5.2`` for (8, 5); a version that no JetPack brings counts as its first release."""
    return f"{version[0]}.{version[1]}.{_PATCHES.get(version, 0)}"


def with_caches(target: Target) -> list[tuple[int, int]]:
    """The TensorRT versions of a target that read calibration caches, oldest first."""
    return [version for version in target.tensorrt if version[0] <= _LAST_MAJOR]


def last_with_caches(target: Target) -> tuple[int, int] | None:
    """The newest of them; None where there is none."""
    return max(with_caches(target), default=None)
