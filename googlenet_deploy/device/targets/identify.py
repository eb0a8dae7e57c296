"""Identifies the module from its device tree and memory; each profile states what identifies it.

``part_numbers`` of a profile are the module's, as the device tree's ``compatible`` has them ("nvidia,p3767-0003");
``models`` are parts of the device tree's ``model``. Modules that share a model name differ in their memory.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.resources import read_resource
from googlenet_deploy.device.targets.target import FOLDER, target_names
from googlenet_deploy.device.targets.toml_subset import parse_toml

# A module's Linux sees its memory less what firmware and GPU keep: 0.86 of 4 GB, 0.93 of 16 GB, 0.96 of 64 GB.
SMALLEST_SHARE_SEEN = 0.7


def identify_module(model: str, compatible: str = "", memory_bytes: Optional[int] = None) -> str:
    """The profile of the module; "" if none matches.

    Args:
        model: The device tree's model, such as "NVIDIA Jetson Orin Nano Developer Kit".
        compatible: The device tree's compatible strings, in any separation.
        memory_bytes: The memory available to Linux; None if unknown.
    """
    profiles = {name: parse_toml(read_resource(f"{FOLDER}/{name}.toml")) for name in target_names()}
    return _by_part_number(profiles, compatible.lower()) or _by_model(profiles, model.lower(), memory_bytes)


def _by_part_number(profiles: Dict[str, Dict[str, Any]], compatible: str) -> str:
    found = [
        (len(part), name)
        for name, profile in profiles.items()
        for part in profile["part_numbers"]
        if re.search(rf"{re.escape(part)}(?!\d)", compatible)
    ]
    return max(found, default=(0, ""))[1]


def _by_model(profiles: Dict[str, Dict[str, Any]], model: str, memory_bytes: Optional[int]) -> str:
    """The longest matching part of the name decides: "agx orin" before "orin"."""
    found = [
        (len(words), name)
        for name, profile in profiles.items()
        for words in profile["models"]
        if re.search(rf"(?<![a-z0-9]){re.escape(words)}(?![a-z0-9])", model)
    ]
    longest = max((length for length, _ in found), default=0)
    return _by_memory(profiles, sorted({name for length, name in found if length == longest}), memory_bytes)


def _by_memory(profiles: Dict[str, Dict[str, Any]], names: List[str], memory_bytes: Optional[int]) -> str:
    """Among modules of one name, the one with matching memory; else the largest, whose bounds hold for the others."""
    if len(names) < 2:
        return "".join(names)
    sizes: List[Tuple[float, str]] = sorted((profiles[name]["memory"].get("gib", float("inf")), name) for name in names)
    gib = (memory_bytes or 0) / 2**30
    fitting = [name for size, name in sizes if SMALLEST_SHARE_SEEN * size < gib <= size]
    return fitting[0] if fitting else sizes[-1][1]
