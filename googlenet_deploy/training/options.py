"""The options of a training run, as one immutable value that is copied to the training record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.refine.registry import parse_refinements
from googlenet_deploy.training.pruning.options import PruningOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


class AugmentationEntry(NamedTuple):
    """One augmentation of the training images.

    Attributes:
        help: For ``--help``.
        transform: Where to import a function from, see `device.registry`; it returns the module that augments a batch
            (float32 (N, C, H, W) in 0..1, and the images' random numbers). Empty for none.
        random_crops: Whether each sample is a crop of random area and aspect ratio, rather than the centre crop.
        random_interpolation: Whether the crop's filter is chosen at random.
    """

    help: str = ""
    transform: str = ""
    random_crops: bool = False
    random_interpolation: bool = False


# The one registry of augmentations.
AUGMENTATIONS: dict[str, AugmentationEntry] = {
    "natural": AugmentationEntry(
        "random crops, mirroring, colour", "googlenet_deploy.training.data.photometric:natural", random_crops=True
    ),
    "paper": AugmentationEntry(
        "more of it, as in the paper", "googlenet_deploy.training.data.photometric:paper", random_crops=True,
        random_interpolation=True,
    ),
    "light": AugmentationEntry("small shifts and rotations", "googlenet_deploy.training.data.affine:Affine"),
    "none": AugmentationEntry(),
}  # fmt: skip

SCHEDULES = ("cosine", "step", "constant")
OPTIMIZERS = ("sgd", "adam")
RESIZE_MODES = ("short-side", "stretch")
# What a choice implies unless overridden. Adam alone, at one rate, and images stretched whole are
# the recipe of the plain GoogLeNet's notebook.
IMPLIED: dict[tuple[str, str], dict[str, Any]] = {
    ("optimizer", "adam"): {
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "averaging": 0.0,
    },
    ("resize_mode", "stretch"): {"augmentation": "none"},
}
DEVICES = ("auto", "cpu", "cuda")
WORKER_TYPES = ("auto", "threads", "processes")
TRAINING_PRECISIONS = ("fp32", "bf16", "fp16")
SPARSITIES = ("none", "2:4")
MIN_INPUT_SIZE = 32
# How the work is divided and where it runs; results are the same up to the order of floating-point sums.
EXECUTION = ("accumulate", "device", "channels_last", "compile")
NOT_RECORDED = ("workers", "worker_type", "cache_megabytes", "save_every")
SCALES = ("learned", "fixed")


IMAGES, NETWORK, OPTIMISATION, DISTILLATION, QAT, MACHINE = (
    "images", "network", "optimisation", "distillation", "quantisation-aware training", "running",
)  # fmt: skip


@dataclass(frozen=True)
class QatOptions:
    """Options of quantisation-aware training."""

    scales: str = option(
        "learned", "whether training changes the scales of activations and weights, or keeps the table's", group=QAT,
        metavar="S", choices=SCALES,
    )  # fmt: skip
    refine: str | None = option(
        None, "refinements of the start before training, on training images, as `quantize --refine` has them; none: "
        "the table alone", group=QAT, metavar="LIST", shown_default="best",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
        parse_refinements(self.refine or "")


@dataclass(frozen=True)
class TrainingOptions:
    """Options of one run. If a value is None, the run chooses it, reports the choice and records it."""

    architecture: str | None = option(
        None,
        "bvlc, torchvision or plain",
        group=NETWORK,
        metavar="A",
        shown_default="that of the weights, or torchvision",
    )
    width: float | None = option(
        None, "multiply every channel count", group=NETWORK, metavar="X", above=0,
        shown_default="that of the weights, or 1",
    )  # fmt: skip
    input_size: int | None = option(
        None, "side of the input in pixels", group=NETWORK, metavar="N", least=MIN_INPUT_SIZE,
        shown_default="that of the weights, or 224",
    )  # fmt: skip
    resize: int | None = option(
        None, "short side before the crop, in pixels", group=NETWORK, metavar="N", least=MIN_INPUT_SIZE,
        shown_default="by augmentation",
    )  # fmt: skip
    resize_mode: str | None = option(
        None, "keep the aspect ratio and crop, or stretch the whole image, which implies --augmentation none",
        group=NETWORK, choices=RESIZE_MODES, shown_default="that of the weights; plain stretch, others short-side",
    )  # fmt: skip
    weights: str | None = option(
        None, "fine-tune a checkpoint (.safetensors, .caffemodel, .pth), or bvlc or torchvision; its classifier is "
        "replaced where the classes are others", group=NETWORK, metavar="W",
    )  # fmt: skip
    weights_key: str | None = option(
        None, "which weights of a checkpoint that contains several", group=NETWORK, metavar="KEY",
        shown_default="the moving average, if any",
    )  # fmt: skip
    reset_classifier: bool = option(
        False, "begin with a fresh classifier, even where the classes are the same", group=NETWORK
    )
    freeze: str = option(
        "none", "keep weights as they are: trunk (all but the classifier), or all up to a module such as inception4a",
        group=NETWORK, metavar="M",
    )  # fmt: skip
    epochs: int = option(30, "passes over the training images", group=OPTIMISATION, metavar="N", least=1)
    batch_size: int = option(32, "images per step, over all processes", group=OPTIMISATION, metavar="N", least=2)
    accumulate: int = option(
        1, "parts of a batch, one after the other, to save memory", group=OPTIMISATION, metavar="N", least=1
    )
    learning_rate: float | None = option(
        None, "highest learning rate", group=OPTIMISATION, flag="--lr", metavar="X", above=0,
        shown_default="bvlc and plain 0.01, torchvision 0.05; with adam 0.0001 and 0.001; a tenth when fine-tuning "
        "more than a new classifier, four tenths with --prune",
    )  # fmt: skip
    optimizer: str = option(
        "sgd", "sgd with momentum, or adam, which implies --schedule constant, and 0 for --warmup, --weight-decay, "
        "--label-smoothing and --averaging", group=OPTIMISATION, choices=OPTIMIZERS,
    )  # fmt: skip
    schedule: str = option(
        "cosine", "cosine to zero, step: 4 % less every 8 epochs, as in the paper, or constant", group=OPTIMISATION,
        metavar="S", choices=SCHEDULES,
    )  # fmt: skip
    warmup_epochs: float = option(
        1.0, "epochs in which the learning rate rises from zero", group=OPTIMISATION, flag="--warmup",
        metavar="EPOCHS", least=0,
    )  # fmt: skip
    momentum: float = option(0.9, "of SGD", group=OPTIMISATION, metavar="X", least=0, below=1)
    weight_decay: float = option(
        2e-4, "L2 penalty on the kernels; biases and norms have none", group=OPTIMISATION, metavar="X", least=0
    )
    clip: float | None = option(
        None, "largest norm of all gradients together", group=OPTIMISATION, metavar="X", above=0, shown_default="any"
    )
    label_smoothing: float = option(
        0.1, "share of the target that is spread over all classes", group=OPTIMISATION, metavar="X", least=0, below=1
    )
    auxiliary_weight: float = option(
        0.3, "of each auxiliary loss; 0: train without them", group=OPTIMISATION, metavar="X", least=0
    )
    dropout: float | None = option(
        None, "share dropped before the classifier", group=NETWORK, metavar="P", least=0, below=1,
        shown_default="the network's own",
    )  # fmt: skip
    auxiliary_dropout: float | None = option(
        None, "share dropped in the auxiliary classifiers", group=NETWORK, metavar="P", least=0, below=1,
        shown_default="0.7",
    )  # fmt: skip
    averaging: float | None = option(
        None, "decay of the weights' average; 0: none", group=OPTIMISATION, metavar="D", least=0, below=1,
        shown_default="by run length",
    )  # fmt: skip
    augmentation: str = option(
        "natural", "; ".join(f"{name}: {entry.help}" if entry.help else name for name, entry in AUGMENTATIONS.items()),
        group=IMAGES, metavar="A", choices=tuple(AUGMENTATIONS),
    )  # fmt: skip
    min_area: float = option(
        0.08, "smallest share of the image that is cropped", group=IMAGES, metavar="X", above=0, most=1
    )
    mixup: float = option(0.0, "mix pairs of images, such as 0.2; 0: none", group=IMAGES, metavar="ALPHA", least=0)
    distill_from: str | None = option(
        None, "a network to imitate, of the same classes: a checkpoint (.safetensors, .caffemodel, .pth), or bvlc or "
        "torchvision", group=DISTILLATION, metavar="W",
        shown_default="with --qat the FP32 model, with --prune the unpruned network, else none",
    )  # fmt: skip
    distillation: float = option(
        0.5, "0: learn from labels; 1: from the imitated network's scores and modules alone; between: from both",
        group=DISTILLATION, metavar="X", least=0, most=1,
    )  # fmt: skip
    sparsity: str | None = option(
        None, "2:4: prune two of every four weights, for sparse tensor cores, and train the rest; or none",
        group=OPTIMISATION, metavar="P", choices=SPARSITIES, shown_default="the pattern that the weights have",
    )  # fmt: skip
    validation_share: float = option(
        0.1, "share of each class held out if there are no validation images", group=IMAGES, metavar="X", above=0,
        below=1,
    )  # fmt: skip
    epoch_images: int | None = option(
        None, "images per epoch of shards", group=IMAGES, metavar="N", least=1, shown_default="all, counted"
    )
    seed: int = option(
        0, "of the split, the initial weights, the order, augmentation and dropout", group=OPTIMISATION, metavar="N",
        least=0,
    )  # fmt: skip
    device: str = option("auto", "auto: a GPU where there is one", group=MACHINE, choices=DEVICES)
    precision: str = option("fp32", "bf16 and fp16 are mixed precision", group=MACHINE, choices=TRAINING_PRECISIONS)
    channels_last: bool = option(
        True, "keep images in NCHW order; NHWC, the default, is faster on most machines", group=MACHINE,
        flag="--channels-first",
    )  # fmt: skip
    compile: bool = option(False, "compile the network with torch.compile", group=MACHINE)
    workers: int | None = option(
        None, "how many read images", group=MACHINE, metavar="N", least=1, shown_default="one per core, at most 16"
    )
    worker_type: str = option(
        "auto", "auto: processes beside a GPU and threads elsewhere", group=MACHINE, choices=WORKER_TYPES
    )
    cache_megabytes: int = option(
        1024, "memory for decoded images per process; what exceeds it is decoded anew each epoch", group=IMAGES,
        flag="--cache", metavar="MB", least=0,
    )  # fmt: skip
    save_every: int = option(
        1000, "steps between two savings of the state; it is saved after every epoch too", group=MACHINE,
        metavar="STEPS", least=1,
    )  # fmt: skip
    qat: QatOptions | None = None
    pruning: PruningOptions | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.resize is not None and self.input_size is not None and self.resize < self.input_size:
            raise UsageError(f"--resize must be at least {self.input_size}, is {self.resize}")
        if self.weights is None and (self.weights_key or self.reset_classifier):
            raise UsageError("--weights-key and --reset-classifier belong to --weights")
        if self.qat is not None and self.optimizer != "sgd":
            raise UsageError("--optimizer: quantisation-aware training has an optimiser of its own")
        if self.distill_from is not None and self.distillation == 0.0:
            raise UsageError("--distill-from is not imitated with --distillation 0")
        if self.pruning is not None:
            self.pruning.check_epochs(self.epochs)

    def to_record(self) -> dict[str, Any]:
        """The options for the training record, without those that cannot change the result (`workers`, memory)."""
        values = asdict(self)
        for name in NOT_RECORDED:
            del values[name]
        return values


def implied(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options implied by the given ones, without those given explicitly."""
    found: dict[str, Any] = {}
    for (name, value), options in IMPLIED.items():
        if given.get(name) == value:
            found |= options
    return {name: value for name, value in found.items() if name not in given}
