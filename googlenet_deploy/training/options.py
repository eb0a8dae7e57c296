"""What a training run is told, as one immutable value that the training record repeats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEDULES = ("cosine", "step")
AUGMENTATIONS = ("natural", "light", "none")
DEVICES = ("auto", "cpu", "cuda")
MIN_INPUT_SIZE = 32


@dataclass(frozen=True)
class TrainingOptions:
    """Options of one run. Where a value is None, the run chooses it, says so and records what it chose.

    Attributes:
        architecture: "bvlc" or "torchvision"; None takes that of `weights`, or "torchvision" from scratch.
        width: Multiplies every channel count; None takes that of `weights`, or 1.
        input_size: Side of the square input in pixels, at least 32; None takes that of `weights`, or 224.
        resize: Length of the short side ahead of the centre crop, in pixels; None chooses.
        weights: Fine-tune from these weights; None trains from scratch.
        freeze: "none", "trunk" (all but the classifier), or the last module that keeps its weights.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: At its highest; None chooses by architecture.
        schedule: "cosine" to zero, or "step": 4 % less every 8 epochs, as the paper has it.
        warmup_epochs: Epochs in which the learning rate rises linearly from zero.
        momentum: Of SGD.
        weight_decay: L2 penalty on the kernels; biases and norms have none.
        label_smoothing: Share of the target that is spread over all classes.
        auxiliary_weight: Weight of each auxiliary classifier's loss; 0 trains without them.
        dropout: Share dropped ahead of the classifier; None keeps the architecture's.
        averaging: Decay of the average of the weights; 0 takes the last weights; None chooses by length.
        augmentation: "natural", "light" or "none"; see `augmentation.py`.
        min_area: Smallest share of the image's area that "natural" crops.
        validation_share: Share of each class that is held out where the folder has no val/.
        seed: Of the split, the initial weights, the order of the images, augmentation and dropout.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        workers: Threads that read images; None takes one per core, at most 8.
        cache_megabytes: Memory that decoded images may fill, in MB.
    """

    architecture: str | None = None
    width: float | None = None
    input_size: int | None = None
    resize: int | None = None
    weights: str | None = None
    freeze: str = "none"
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float | None = None
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 2e-4
    label_smoothing: float = 0.1
    auxiliary_weight: float = 0.3
    dropout: float | None = None
    averaging: float | None = None
    augmentation: str = "natural"
    min_area: float = 0.08
    validation_share: float = 0.1
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    cache_megabytes: int = 1024

    def __post_init__(self) -> None:
        _choice("--schedule", self.schedule, SCHEDULES)
        _choice("--augmentation", self.augmentation, AUGMENTATIONS)
        _choice("--device", self.device, DEVICES)
        _at_least("--epochs", self.epochs, 1)
        _at_least("--batch-size", self.batch_size, 2)
        _at_least("--input-size", self.input_size, MIN_INPUT_SIZE)
        _at_least("--resize", self.resize, self.input_size or MIN_INPUT_SIZE)
        _at_least("--seed", self.seed, 0)
        _at_least("--workers", self.workers, 1)
        _at_least("--cache", self.cache_megabytes, 0)
        _at_least("--warmup", self.warmup_epochs, 0)
        _at_least("--weight-decay", self.weight_decay, 0)
        _at_least("--auxiliary-weight", self.auxiliary_weight, 0)
        for option, share in (
            ("--momentum", self.momentum),
            ("--label-smoothing", self.label_smoothing),
            ("--dropout", self.dropout),
            ("--averaging", self.averaging),
        ):
            if share is not None and not 0 <= share < 1:
                raise UsageError(f"{option} must be at least 0 and below 1, is {share:g}")
        for option, positive in (("--lr", self.learning_rate), ("--width", self.width)):
            if positive is not None and not 0 < positive < float("inf"):
                raise UsageError(f"{option} must be above 0, is {positive:g}")
        if not 0 < self.validation_share < 1 or not 0 < self.min_area <= 1:
            raise UsageError("--validation-share and --min-area must be above 0 and at most 1")

    def to_record(self) -> dict[str, Any]:
        """As the training record keeps it; what cannot change the result (`workers`, memory) is left out."""
        values = asdict(self)
        del values["workers"], values["cache_megabytes"]
        return values


def _choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{option} is {value!r}, must be one of {', '.join(choices)}")


def _at_least(option: str, value: float | None, least: float) -> None:
    if value is not None and not value >= least:
        raise UsageError(f"{option} must be at least {least:g}, is {value:g}")
