"""Chooses the power meter of this machine, or explains why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple, Union

from googlenet_deploy.device.power.meter import METERS, REGISTRY, NotMeasured, Opened
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.registry import load_member
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.errors import UsageError

AnySampler = Union[Sampler, NoSampler]


def open_sampler(
    choice: str = "auto", device: str = "GPU", rails: Tuple[str, ...] = (), root: Path = Path("/")
) -> AnySampler:
    """Opens a sampler of this machine's meter, or one that returns the reason why nothing is measured.

    Args:
        choice: One of `METERS`. "auto" uses a Jetson's built-in monitors, then tegrastats; elsewhere NVML for work on a
            GPU and RAPL for work on a CPU, and never one in place of the other.
        device: Where the work runs: "GPU", "DLA" or "CPU".
        rails: Rails that make up the total; empty for the module's default.
        root: Root of the file system.

    Raises:
        UsageError: The choice is unknown, or one of the rails does not exist.
    """
    meter = open_meter(choice, device, rails, root)
    return NoSampler(meter) if isinstance(meter, NotMeasured) else Sampler(meter)


def open_meter(
    choice: str = "auto", device: str = "GPU", rails: Tuple[str, ...] = (), root: Path = Path("/")
) -> Opened:
    """Opens the meter alone; see `open_sampler`."""
    if choice == "none":
        return NotMeasured("it was switched off (--power none)")
    openers = {name: _opener(name, rails, root) for name in REGISTRY}
    if choice in openers:
        return openers[choice]()
    if choice != "auto":
        raise UsageError(f"unknown power meter {choice!r}: choose one of {', '.join(METERS)}")
    place = "Jetson" if find_jetson(root) is not None else "CPU" if device == "CPU" else "GPU"
    return _first(openers, [name for name, entry in REGISTRY.items() if entry.auto == place])


def _opener(name: str, rails: Tuple[str, ...], root: Path) -> Callable[[], Opened]:
    def open_it() -> Opened:
        opened: Opened = load_member(REGISTRY[name].opener)(rails, root)
        return opened

    return open_it


def _first(openers: Dict[str, Callable[[], Opened]], order: Sequence[str]) -> Opened:
    reasons: List[NotMeasured] = []
    for name in order:
        opened = openers[name]()
        if not isinstance(opened, NotMeasured):
            if reasons:
                opened.notes.append(f"chosen because {reasons[-1].reason}")
            return opened
        reasons.append(opened)
    remedies = "; ".join(dict.fromkeys(reason.remedy for reason in reasons if reason.remedy))
    return NotMeasured("; ".join(reason.reason for reason in reasons), remedies)
