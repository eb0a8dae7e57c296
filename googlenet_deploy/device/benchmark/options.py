"""What is measured, and how long."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Optional, Tuple

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.power.meter import METERS
from googlenet_deploy.device.preprocessing_options import parse_frame
from googlenet_deploy.device.specification import LARGEST_SIDE
from googlenet_deploy.errors import UsageError

MAX_BATCH = 4096
MAX_STREAMS = 64
MAX_ROUNDS = 100
MAX_SECONDS = 3600.0
MAX_IMAGES = 10_000
MAX_RUNS = 10**7


def rail_names(text: str) -> Tuple[str, ...]:
    """Comma-separated names of power rails, for argparse."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names


MEASURING, POWER = "measuring", "power"


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and how long.

    Raises:
        UsageError: A value is out of range.
    """

    batches: Tuple[int, ...] = option(
        (), "batch sizes", group=MEASURING, flag="--batch", metavar="N,N", least=1, most=MAX_BATCH,
        shown_default="the model's, or 1",
    )  # fmt: skip
    streams: Tuple[int, ...] = option(
        (1,), "batches that are worked on at once", group=MEASURING, metavar="N,N", least=1, most=MAX_STREAMS
    )
    rounds: int = option(
        5, "repetitions of every measurement, for its interval", group=MEASURING, metavar="N", least=1,
        most=MAX_ROUNDS,
    )  # fmt: skip
    seconds: float = option(2.0, "least length of a round", group=MEASURING, metavar="S", least=0, most=MAX_SECONDS)
    min_runs: int = option(10, "least runs of a round", group=MEASURING, metavar="N", least=1, most=MAX_RUNS)
    warm_up_seconds: float = option(
        20.0, "longest warm-up", group=MEASURING, flag="--warm-up", metavar="S", least=0, most=MAX_SECONDS
    )
    idle_seconds: float = option(
        3.0, "least time for the idle power", group=POWER, flag="--idle", metavar="S", least=0, most=MAX_SECONDS
    )
    image_count: int = option(32, "most real images", group=MEASURING, metavar="N", least=1, most=MAX_IMAGES)
    seed: int = option(0, "of the synthetic images", group=MEASURING, metavar="N")
    threads: Optional[int] = None  # None uses one per core, divided among concurrent streams
    power: str = option("auto", "the meter; auto: what this machine has", group=POWER, choices=METERS)
    power_rails: Tuple[str, ...] = option(
        (), "rails that make the total", group=POWER, metavar="NAME,NAME", parse=rail_names,
        shown_default="the module's",
    )  # fmt: skip
    frame: Optional[Tuple[int, int]] = option(
        None, "feed raw frames of this height x width from memory, as a camera delivers them, instead of image files",
        group=MEASURING, metavar="HxW", parse=parse_frame, least=1, most=LARGEST_SIDE,
        shown_default="the size that a model made with --frame-input accepts",
    )  # fmt: skip
    trtexec: bool = option(True, "do not run trtexec beside", group=MEASURING)

    def __post_init__(self) -> None:
        check_options(self)
        for name, values in (("--batch", self.batches), ("--streams", self.streams)):
            if len(set(values)) != len(values):
                raise UsageError(f"{name} {','.join(map(str, values))} names a size twice")
        if not self.streams:
            raise UsageError("--streams names no number")
