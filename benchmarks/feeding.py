"""How fast decoded, cropped images reach a training loop, and how much of the loop's own time that takes.

The network is replaced by the work that a very fast GPU leaves to the CPU: launching some thousand operations per
step, here on tensors of 16 numbers. `train`'s feed, with threads and with processes, with and without its cache of
decoded images, is compared with a plain torch.utils.data.DataLoader with a worker per core over Pillow; see
`training.py`.

    python benchmarks/feeding.py [--rounds 3] [--images 1920] [--batch 128] [--launches 1000] [--record]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from harness import interleaved_figures, options, rates_table, record
from torch import Tensor
from training import CACHE, FOLDER, MEASURED, Images, write_listing

from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.training.data.batches import ImageFeed
from googlenet_deploy.training.distributed import started_processes
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.setup import DataPlaces, classifier_task, prepare

PEER = "DataLoader"


def launched(epoch: Callable[[], Iterator[Tensor]], launches: int) -> float:
    """Images per second of a loop that launches a given number of operations per step."""
    values, start, images = torch.zeros(16), time.perf_counter(), 0
    for batch in epoch():
        images += len(batch)
        for _ in range(launches):
            values.add_(1.0)
    return images / (time.perf_counter() - start)


def plain(rows: list[tuple[str, int]], batch: int) -> Callable[[], Iterator[Tensor]]:
    """Epochs of a DataLoader."""
    loader = torch.utils.data.DataLoader(
        Images(rows), batch, shuffle=True, drop_last=True, num_workers=available_cores(), persistent_workers=True
    )
    return lambda: (images for images, _ in loader)


def fed(listing: Path, batch: int, worker_type: str, cache: int) -> Callable[[], Iterator[Tensor]]:
    """Epochs of `train`'s data pipeline, starting with the first one."""
    chosen = TrainingOptions(
        architecture="torchvision", batch_size=batch, device="cpu", worker_type=worker_type, cache_megabytes=cache
    )
    with started_processes("cpu") as processes:
        places = DataPlaces(str(listing), images=str(FOLDER))
        feed = prepare(places, chosen, classifier_task, processes=processes, quiet=True).trainer.feed
    assert isinstance(feed, ImageFeed)
    epochs = iter(range(1, sys.maxsize))
    return lambda: (batch.pixels for batch in feed.batches(next(epochs)))


def main() -> int:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--images", type=int, default=1920, help="per epoch (default %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="default %(default)s")
    parser.add_argument("--launches", type=int, default=1000, help="operations per step (default %(default)s)")
    arguments = parser.parse_args()
    listing, rows = write_listing(arguments.images)
    candidates = {PEER: plain(rows[MEASURED:], arguments.batch)}
    for cache, kept in ((0, ""), (CACHE, ", decoded images kept")):
        for worker_type in ("threads", "processes"):
            candidates[f"train, {worker_type}{kept}"] = fed(listing, arguments.batch, worker_type, cache)
    loops = {name: partial(launched, epoch, arguments.launches) for name, epoch in candidates.items()}
    rates = interleaved_figures(loops, arguments.rounds)
    ratios = rates_table(rates, PEER, ",.0f")
    if arguments.record:
        figures = {"batch": arguments.batch, "images": arguments.images, "launches": arguments.launches}
        record("feeding", {**figures, "rates": rates, "ratios": ratios})
    return 0


if __name__ == "__main__":
    sys.exit(main())
