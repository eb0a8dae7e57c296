"""Training throughput at 224x224 beside a plain PyTorch loop: same network, images, augmentation and batch.

Both decode every JPEG anew in each epoch, take a random crop of 8 to 100 % of the area, mirror, and change brightness,
contrast and saturation in random order; both train with two auxiliary losses and SGD. The plain loop is what one writes
over torch.utils.data.DataLoader with Pillow: a worker per core, on a GPU with pinned memory and copies that overlap;
once as most write it, once with channels_last. `train` is also measured with its cache of decoded images, which it
has by default. Epochs take turns; forward and backward dominate on a CPU, so ratios near 1 are expected there.

    python benchmarks/training.py [--rounds 3] [--images 128] [--batch 16] [--device cpu] [--precision fp32] [--record]
    python benchmarks/training.py --device cuda --precision bf16 --images 4096 --batch 128 --record
"""

from __future__ import annotations

import csv
import itertools
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import IMAGES, LABELS, ROOT, interleaved_figures, options, rates_table, record
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs
from googlenet_deploy.training.data.augmentation import random_box
from googlenet_deploy.training.distributed import started_processes
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.setup import DataPlaces, classifier_task, prepare

CLASSES, MEASURED, CACHE = 4, 8, 4096
PEER = "plain loop"
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
STRENGTH = 0.4
FOLDER = ROOT / "build" / "training"


class Place(NamedTuple):
    """The device and precision of training."""

    device: str
    precision: str

    def forward(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()


class Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Decodes, crops, mirrors and changes the colours of one image at a time."""

    def __init__(self, rows: list[tuple[str, int]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        name, label = self.rows[index]
        generator = np.random.default_rng()
        with Image.open(FOLDER / name) as opened:
            image = opened.convert("RGB")
        box = random_box(image.width, image.height, 0.08, generator)
        image = image.resize((224, 224), Image.Resampling.BILINEAR, box=box)
        if generator.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhancer in generator.permutation(len(ENHANCERS)):
            image = ENHANCERS[enhancer](image).enhance(generator.uniform(1 - STRENGTH, 1 + STRENGTH))
        values = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).copy())
        return values.div_(255).sub_(0.5).div_(0.5), label


def plain_loop(rows: list[tuple[str, int]], batch: int, place: Place, *, channels_last: bool) -> Callable[[], float]:
    """Returns a function that trains for one epoch and returns the images per second."""
    model = GoogLeNet(ARCHITECTURES["torchvision"], CLASSES, auxiliary=True).train().to(place.device)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=memory)  # type: ignore[call-overload] # its stub lacks it
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    loader = torch.utils.data.DataLoader(
        Images(rows),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=available_cores(),
        persistent_workers=True,
        pin_memory=place.device == "cuda",
    )

    def epoch() -> float:
        start, seen, total = time.perf_counter(), 0, torch.zeros((), device=place.device)
        for images, labels in loader:
            inputs = images.to(place.device, non_blocking=True).contiguous(memory_format=memory)
            with place.forward():
                loss = losses(model, inputs, labels.to(place.device, non_blocking=True))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach()
            seen += len(labels)
        total.item()  # waits for the GPU, once per epoch
        return seen / (time.perf_counter() - start)

    return epoch


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    outputs = model(images)
    assert isinstance(outputs, TrainingOutputs)
    main, *auxiliary = (cross_entropy(logits, labels, label_smoothing=0.1) for logits in outputs)
    return main + 0.3 * torch.stack(auxiliary).sum()


def ours(listing: Path, batch: int, rounds: int, place: Place, cache: int) -> Iterator[float]:
    """Epochs of `train`, each as images per second of training alone."""
    chosen = TrainingOptions(
        architecture="torchvision",
        epochs=rounds + 1,
        batch_size=batch,
        device=place.device,
        precision=place.precision,
        cache_megabytes=cache,
    )
    with started_processes(place.device) as processes:
        places = DataPlaces(str(listing), images=str(FOLDER))
        prepared = prepare(places, chosen, classifier_task, processes=processes, quiet=True)
        for result in prepared.trainer.epochs():
            yield result.images_per_second


def sample(count: int) -> list[tuple[str, int]]:
    """A seeded choice of images, linked into a folder; their classes do not matter here.

    If more are requested than exist, images are repeated under other names.
    """
    with LABELS.open(encoding="utf-8") as stream:
        names = sorted(row["filename"] for row in csv.DictReader(stream))
    random.Random(0).shuffle(names)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    rows = []
    for index, name in enumerate(itertools.islice(itertools.cycle(names), count)):
        link = f"{index:05d}-{name}"
        (FOLDER / link).symlink_to(IMAGES / name)
        rows.append((link, index % CLASSES))
    return rows


def write_listing(count: int) -> tuple[Path, list[tuple[str, int]]]:
    """A CSV file of `sample`'s images: the first few for validation, `count` for training; and all of them."""
    rows = sample(count + MEASURED)
    listing = FOLDER / "listing.csv"
    marked = [(*row, "val" if number < MEASURED else "train") for number, row in enumerate(rows)]
    listing.write_text("".join(f"{name},{label},{split}\n" for name, label, split in marked), encoding="utf-8")
    return listing, rows


def main() -> int:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--images", type=int, default=128, help="per epoch (default %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="default %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default %(default)s")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default %(default)s")
    arguments = parser.parse_args()
    place = Place(arguments.device, arguments.precision)
    listing, rows = write_listing(arguments.images)
    rates = measured(listing, rows[MEASURED:], arguments.batch, arguments.rounds, place)
    ratios = rates_table(rates, PEER, ".2f")
    if arguments.record:
        figures = {"batch": arguments.batch, "images": arguments.images, **place._asdict()}
        name = "training_gpu" if place.device == "cuda" else "training"
        record(name, {**figures, "rates": rates, "ratios": ratios})
    return 0


def measured(
    listing: Path, rows: list[tuple[str, int]], batch: int, rounds: int, place: Place
) -> dict[str, list[float]]:
    """Images per second of each candidate and round; the first epoch of each is not counted."""
    decoding, cached = (ours(listing, batch, rounds, place, megabytes) for megabytes in (0, CACHE))
    candidates = {
        PEER: plain_loop(rows, batch, place, channels_last=False),
        f"{PEER}, channels_last": plain_loop(rows, batch, place, channels_last=True),
        "train": lambda: next(decoding),
        "train, decoded images kept": lambda: next(cached),
    }
    return interleaved_figures(candidates, rounds)


if __name__ == "__main__":
    sys.exit(main())
