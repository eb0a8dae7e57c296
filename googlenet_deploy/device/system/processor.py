"""The CPU: how many cores this process may use, and which instructions it has."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import FrozenSet

CPUINFO = Path("/proc/cpuinfo")
# Instructions that sum products of uint8 and int8 in 32 bits; those before them saturate in 16 bits.
INT8_INSTRUCTIONS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_x86() -> bool:
    """Whether this is a 64-bit x86 processor."""
    return platform.machine().lower() in ("x86_64", "amd64")


@lru_cache(maxsize=1)
def instructions() -> FrozenSet[str]:
    """The processor's features by Linux's names, such as "avx2"; empty if unknown."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def sums_int8_exactly() -> bool:
    """Whether products of uint8 and int8 are summed without saturation; see `INT8_INSTRUCTIONS`."""
    return bool(instructions() & INT8_INSTRUCTIONS)
