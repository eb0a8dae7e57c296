"""What a training run is told, as one immutable value that the training record repeats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.refine.registry import parse_refinements

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEDULES = ("cosine", "step")
AUGMENTATIONS = ("natural", "paper", "light", "none")
RANDOM_CROPS = frozenset({"natural", "paper"})
DEVICES = ("auto", "cpu", "cuda")
WORKER_TYPES = ("auto", "threads", "processes")
PRECISIONS = ("fp32", "bf16", "fp16")
SPARSITIES = ("none", "2:4")
MIN_INPUT_SIZE = 32
# How the work is divided and where it is done; with the same numbers, up to the order of floating-point sums.
EXECUTION = ("accumulate", "device", "channels_last", "compile")
NOT_RECORDED = ("workers", "worker_type", "cache_megabytes", "save_every")
SCALES = ("learned", "fixed")


@dataclass(frozen=True)
class QatOptions:
    """How quantisation-aware training learns.

    Attributes:
        scales: "learned" lets training change the scales of activations and weights, "fixed" keeps the table's.
        distillation: Weight of the distance to the FP32 network's scores in the loss; the labels have the rest.
        refine: What refines the model that training starts from, as for `quantize`; None for the best that there is.
    """

    scales: str = "learned"
    distillation: float = 0.5
    refine: str | None = None

    def __post_init__(self) -> None:
        _choice("--scales", self.scales, SCALES)
        if not 0 <= self.distillation <= 1:
            raise UsageError(f"--distillation must be from 0 to 1, is {self.distillation:g}")
        parse_refinements(self.refine or "")


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
        batch_size: Images per step, over all processes.
        accumulate: Parts into which each process divides its images of a step, one after the other, to save memory.
        learning_rate: At its highest; None chooses by architecture.
        schedule: "cosine" to zero, or "step": 4 % less every 8 epochs, as the paper has it.
        warmup_epochs: Epochs in which the learning rate rises linearly from zero.
        momentum: Of SGD.
        weight_decay: L2 penalty on the kernels; biases and norms have none.
        clip: Largest norm of all gradients together; None does not clip.
        label_smoothing: Share of the target that is spread over all classes.
        auxiliary_weight: Weight of each auxiliary classifier's loss; 0 trains without them.
        dropout: Share dropped ahead of the classifier; None keeps the architecture's.
        auxiliary_dropout: Share dropped inside the auxiliary classifiers; None keeps the architecture's 0.7.
        averaging: Decay of the average of the weights; 0 takes the last weights; None chooses by length.
        augmentation: "natural", "paper", "light" or "none"; see `augmentation.py`.
        min_area: Smallest share of the image's area that random crops take.
        mixup: Alpha of mixup's beta distribution; 0 mixes nothing.
        sparsity: "none", or "2:4": two of four weights are zero, for sparse tensor cores; see `sparsity.py`. None
            keeps the pattern where the given weights have it.
        validation_share: Share of each class that is held out where there are no validation images.
        epoch_images: Images per epoch of a stream of shards; None counts them.
        seed: Of the split, the initial weights, the order of the images, augmentation and dropout.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        precision: "fp32", or "bf16" or "fp16" for mixed precision.
        channels_last: Keep images and kernels in NHWC memory order.
        compile: Run the network through torch.compile.
        workers: How many read images; None takes one per core, at most 16.
        worker_type: "threads", "processes", or "auto" for processes beside a GPU and threads elsewhere.
        cache_megabytes: Memory that decoded images may fill, in MB, per process.
        qat: Quantisation-aware training; None trains in float.
        save_every: Steps between two savings of the training state; it is saved after every epoch as well.
    """

    architecture: str | None = None
    width: float | None = None
    input_size: int | None = None
    resize: int | None = None
    weights: str | None = None
    freeze: str = "none"
    epochs: int = 30
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float | None = None
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 2e-4
    clip: float | None = None
    label_smoothing: float = 0.1
    auxiliary_weight: float = 0.3
    dropout: float | None = None
    auxiliary_dropout: float | None = None
    averaging: float | None = None
    augmentation: str = "natural"
    min_area: float = 0.08
    mixup: float = 0.0
    sparsity: str | None = None
    validation_share: float = 0.1
    epoch_images: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    workers: int | None = None
    worker_type: str = "auto"
    cache_megabytes: int = 1024
    save_every: int = 1000
    qat: QatOptions | None = None

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_counts()
        for option, share in (
            ("--momentum", self.momentum),
            ("--label-smoothing", self.label_smoothing),
            ("--dropout", self.dropout),
            ("--auxiliary-dropout", self.auxiliary_dropout),
            ("--averaging", self.averaging),
        ):
            if share is not None and not 0 <= share < 1:
                raise UsageError(f"{option} must be at least 0 and below 1, is {share:g}")
        for option, positive in (("--lr", self.learning_rate), ("--width", self.width), ("--clip", self.clip)):
            if positive is not None and not 0 < positive < float("inf"):
                raise UsageError(f"{option} must be above 0, is {positive:g}")
        if not 0 < self.validation_share < 1 or not 0 < self.min_area <= 1:
            raise UsageError("--validation-share and --min-area must be above 0 and at most 1")

    def _check_choices(self) -> None:
        for option, value, choices in (
            ("--schedule", self.schedule, SCHEDULES),
            ("--augmentation", self.augmentation, AUGMENTATIONS),
            ("--device", self.device, DEVICES),
            ("--worker-type", self.worker_type, WORKER_TYPES),
            ("--precision", self.precision, PRECISIONS),
            ("--sparsity", self.sparsity, SPARSITIES),
        ):
            if value is not None:
                _choice(option, value, choices)

    def _check_counts(self) -> None:
        for option, value, least in (
            ("--epochs", self.epochs, 1),
            ("--batch-size", self.batch_size, 2),
            ("--accumulate", self.accumulate, 1),
            ("--input-size", self.input_size, MIN_INPUT_SIZE),
            ("--resize", self.resize, self.input_size or MIN_INPUT_SIZE),
            ("--seed", self.seed, 0),
            ("--workers", self.workers, 1),
            ("--cache", self.cache_megabytes, 0),
            ("--save-every", self.save_every, 1),
            ("--epoch-images", self.epoch_images, 1),
            ("--warmup", self.warmup_epochs, 0),
            ("--weight-decay", self.weight_decay, 0),
            ("--auxiliary-weight", self.auxiliary_weight, 0),
            ("--mixup", self.mixup, 0),
        ):
            _at_least(option, value, least)

    def to_record(self) -> dict[str, Any]:
        """As the training record keeps it; what cannot change the result (`workers`, memory) is left out."""
        values = asdict(self)
        for name in NOT_RECORDED:
            del values[name]
        return values


def _choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{option} is {value!r}, must be one of {', '.join(choices)}")


def _at_least(option: str, value: float | None, least: float) -> None:
    if value is not None and not value >= least:
        raise UsageError(f"{option} must be at least {least:g}, is {value:g}")
