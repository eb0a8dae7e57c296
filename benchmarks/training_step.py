"""What a training step costs the CPU beyond arithmetic: the time to launch its kernels, which a fast GPU waits for.

A network of an eighth of the width, images of 32x32 and batches of 4 leave next to no arithmetic, so that what remains
is Python and PyTorch's dispatch. The plain loop does forward pass, three losses, backward pass and SGD; `train`'s step
does the same, varies the images' colours, averages the weights, keeps its sums and seeds its dropout.

    python benchmarks/training_step.py [--rounds 20] [--precision fp32] [--record]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable

import torch
from harness import interleaved, options, record, table
from training import FOLDER, Place, losses, write_listing

from googlenet_deploy.training.data.batches import TrainingBatch
from googlenet_deploy.training.distributed import started_processes
from googlenet_deploy.training.loop import Trainer, make_optimizer
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.setup import DataPlaces, classifier_task, prepare

STEPS, BATCH = 20, 4
PEER = "plain loop"


def small_trainer(precision: str) -> tuple[Trainer, TrainingBatch]:
    """A trainer of a small network, and a batch."""
    listing, _ = write_listing(4 * BATCH)
    chosen = TrainingOptions(
        architecture="torchvision", width=0.125, input_size=32, batch_size=BATCH, device="cpu", precision=precision
    )
    with started_processes("cpu") as processes:
        places = DataPlaces(str(listing), images=str(FOLDER))
        trainer = prepare(places, chosen, classifier_task, processes=processes, quiet=True).trainer
    batch = next(iter(trainer.feed.batches(1)))
    trainer.model.train()
    return trainer, batch


def plain_step(trainer: Trainer, batch: TrainingBatch, place: Place) -> Callable[[], None]:
    """A step as most people write it, with a network of its own."""
    model = copy.deepcopy(trainer.model)
    optimizer = make_optimizer(model, trainer.options)
    inputs = trainer.prepare(batch)

    def step() -> None:
        with place.forward():
            loss = losses(model, inputs, batch.labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def repeated(step: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(STEPS):
            step()

    return run


def main() -> int:
    parser = options(__doc__ or "", rounds=20)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer, batch = small_trainer(arguments.precision)
    candidates = {
        PEER: plain_step(trainer, batch, Place("cpu", arguments.precision)),
        "train": lambda: trainer._step(batch),
        "train: images varied and normalised": lambda: trainer.prepare(batch),
        "train: average of the weights": trainer.average.update,
    }
    timings = interleaved({name: repeated(step) for name, step in candidates.items()}, arguments.rounds, warm_up=2)
    peer = timings[PEER]
    lines = [(n, f"{1e3 * t.median / STEPS:.2f}", f"{1 / t.ratio_to(peer):.2f}") for n, t in timings.items()]
    table(("", "ms per step", f"times {PEER}"), lines)
    if arguments.record:
        values = {name: [1e3 * value / STEPS for value in timing.seconds] for name, timing in timings.items()}
        record("training_step", {"precision": arguments.precision, "milliseconds": values})
    return 0


if __name__ == "__main__":
    sys.exit(main())
