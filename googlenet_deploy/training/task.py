"""What a run trains and what comes of it: a classifier's checkpoint here; `qat.py` has the other kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires

with requires("train"):
    import torch

    from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.network import Network, build_network

if TYPE_CHECKING:
    from googlenet_deploy.training.data import TrainingData
    from googlenet_deploy.training.loop import Criterion
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.validation import Validation

# Writes a network with averaged weights, and its record, to a path.
Write = Callable[[Path, GoogLeNet, dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """A network, its loss and its output.

    Attributes:
        network: What is trained.
        data: The data set, with the classes that the network has.
        write: Writes the result.
        criterion: The loss; that of a classifier where None.
        optimizer: Makes the optimiser; that of a classifier where None.
        reference: The network that is imitated, and that results are compared with; None where there is none.
        score: By what the best epoch is chosen; the number of right answers where None.
    """

    network: Network
    data: TrainingData
    write: Write
    criterion: Criterion | None = None
    optimizer: Callable[[GoogLeNet], torch.optim.Optimizer] | None = None
    reference: GoogLeNet | None = None
    score: Callable[[Validation], float] | None = None

    def score_of(self, validation: Validation) -> float:
        """How good a validation's outcome is; the more the better."""
        return self.score(validation) if self.score else float(validation.accuracy.successes)


def classifier_task(options: TrainingOptions, data: TrainingData) -> Task:
    """Training a classifier, from scratch or from weights, to a checkpoint; see `build_network` for what it raises."""
    network = build_network(options, data)

    def write(path: Path, model: GoogLeNet, record: dict[str, Any]) -> None:
        checkpoint = Checkpoint(
            model=model,
            architecture=network.architecture,
            preprocessing=network.preprocessing,
            class_names=data.class_names,
            class_ids=data.class_ids,
            training_record=record,
        )
        save_checkpoint(path, checkpoint)

    return Task(network, data, write)
