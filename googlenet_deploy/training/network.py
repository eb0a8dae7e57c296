"""The network that a run trains: fresh, or from weights with its classifier replaced; and its frozen part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.specification import PLAIN, Preprocessing
from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.model.architecture import INCEPTION_WIDTHS, Architecture, get_architecture
from googlenet_deploy.training.options import AUGMENTATIONS

with requires("train"):
    import torch
    from torch import nn

    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.weights import load_weights
    from googlenet_deploy.training.dropout import use_step_dropout
    from googlenet_deploy.training.sparsity import choose_sparsity

if TYPE_CHECKING:
    from googlenet_deploy.training.data.dataset import TrainingData
    from googlenet_deploy.training.options import TrainingOptions

DEFAULT_ARCHITECTURE, DEFAULT_INPUT_SIZE = "torchvision", 224
# From scratch at batch size 32: BVLC's train_val solver starts at 0.01; BatchNorm tolerates more. Fine-tuned weights
# move by a tenth of that.
LEARNING_RATES = {
    "sgd": {"bvlc": 0.01, "torchvision": 0.05, "plain": 0.01},
    "adam": {"bvlc": 1e-4, "torchvision": 1e-3, "plain": 1e-4},
}
FINE_TUNING = 0.1
# From scratch: pixels from -1 to 1, or as the architecture's published weights expect them.
FRESH_PREPROCESSING = {"plain": PLAIN}
# The modules in order, as --freeze counts them.
TRUNK = ("conv1", "conv2", "conv3", *INCEPTION_WIDTHS)
FREEZE_CHOICES = ("none", "trunk", *TRUNK)


@dataclass(frozen=True)
class TrainedNetwork:
    """The network to train, and how its images are prepared.

    Attributes:
        model: The network, with auxiliary classifiers if they are trained.
        architecture: Which GoogLeNet it is.
        preprocessing: Preprocessing of its images.
        options: The run's options with architecture, width, input size and learning rate filled in.
        weights_sha256: Hash of the file it was loaded from; empty when training from scratch.
        table_sha256: Hash of the calibration table that quantisation-aware training starts from; otherwise empty.
        teacher_sha256: Hash of the imitated network's file, if that is another file; otherwise empty.
        fresh_classifier: Whether the weights' classifier was replaced because the classes differ.
        notes: Human-readable notes on the choices made.
    """

    model: GoogLeNet
    architecture: Architecture
    preprocessing: Preprocessing
    options: TrainingOptions
    weights_sha256: str = ""
    table_sha256: str = ""
    teacher_sha256: str = ""
    fresh_classifier: bool = False
    notes: tuple[str, ...] = ()


def build_network(options: TrainingOptions, data: TrainingData) -> TrainedNetwork:
    """Builds the network; fresh weights depend on `options.seed` alone.

    Raises:
        UsageError: Options contradict the weights, or each other.
        BadWeightsError: The weights do not load.
        DownloadError: Published weights could not be fetched.
    """
    if options.freeze not in FREEZE_CHOICES:
        raise UsageError(f"--freeze is {options.freeze!r}, must be one of {', '.join(FREEZE_CHOICES)}")
    if options.weights is None and options.freeze != "none":
        raise UsageError("--freeze keeps given weights as they are, so it needs --weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = _from_scratch(options, data) if options.weights is None else _from_weights(options, data)
    set_dropout(network.model, options)
    sparsity, notes = choose_sparsity(options, network.model, trained=options.weights is not None)
    options = replace(network.options, sparsity=sparsity)
    return replace(network, options=options, notes=(*network.notes, *notes))


def set_dropout(model: GoogLeNet, options: TrainingOptions) -> None:
    """Gives a model the run's dropout, its own rates by default; results do not depend on how a step is divided."""
    if options.dropout is not None:
        model.dropout.p = options.dropout
    for auxiliary in (model.aux1, model.aux2):
        if auxiliary is not None and options.auxiliary_dropout is not None:
            auxiliary.dropout.p = options.auxiliary_dropout
    use_step_dropout(model)


def freeze(model: GoogLeNet, last: str) -> list[nn.Module]:
    """Excludes modules from training.

    Args:
        model: The network, changed in place.
        last: "none", "trunk", or the last module of `TRUNK` to freeze; those before it are frozen as well.

    Returns:
        The frozen modules, which must stay in eval mode so that BatchNorm keeps its statistics.
    """
    if last == "none":
        return []
    count = len(TRUNK) if last == "trunk" else TRUNK.index(last) + 1
    modules: list[nn.Module] = [model.get_submodule(name) for name in TRUNK[:count]]
    for module in modules:
        module.requires_grad_(False)
    return modules


def auxiliary_wanted(options: TrainingOptions) -> bool:
    """Whether to train auxiliary classifiers; they train the trunk, so a frozen trunk has no use for them."""
    frozen = (
        TRUNK if options.freeze == "trunk" else TRUNK[: TRUNK.index(options.freeze) + 1] if _partly(options) else ()
    )
    return options.auxiliary_weight > 0 and "inception4a" not in frozen


def _partly(options: TrainingOptions) -> bool:
    return options.freeze in TRUNK


def _from_scratch(options: TrainingOptions, data: TrainingData) -> TrainedNetwork:
    architecture = get_architecture(options.architecture or DEFAULT_ARCHITECTURE)
    size = options.input_size or DEFAULT_INPUT_SIZE
    base = FRESH_PREPROCESSING.get(architecture.name, Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    preprocessing = _adapted(base, replace(options, input_size=size))
    options = replace(
        options,
        architecture=architecture.name,
        width=options.width or 1.0,
        input_size=size,
        resize=stated_short_side(preprocessing),
        resize_mode=preprocessing.resize_mode,
        learning_rate=options.learning_rate or LEARNING_RATES[options.optimizer][architecture.name],
    )
    model = GoogLeNet(architecture, len(data.classes), width=options.width or 1.0, auxiliary=auxiliary_wanted(options))
    return TrainedNetwork(model, architecture, preprocessing, options)


def _from_weights(options: TrainingOptions, data: TrainingData) -> TrainedNetwork:
    assert options.weights is not None
    checkpoint = load_weights(options.weights, auxiliary=auxiliary_wanted(options), key=options.weights_key)
    model, architecture = checkpoint.model, checkpoint.architecture
    for option, asked, has in (
        ("--architecture", options.architecture, architecture.name),
        ("--width", options.width, model.width),
    ):
        if asked is not None and asked != has:
            raise UsageError(f"{option} {asked} contradicts {options.weights}, which has {has}")
    preprocessing = _adapted(checkpoint.preprocessing, options)
    kept = checkpoint.class_names == data.class_names and not options.reset_classifier
    share = FINE_TUNING if kept or options.freeze != "trunk" else 1.0  # a fresh classifier that is trained alone
    if not kept:
        replace_classifier(model, len(data.classes))
    options = replace(
        options,
        architecture=architecture.name,
        width=model.width,
        input_size=preprocessing.crop[0],
        resize=stated_short_side(preprocessing),
        resize_mode=preprocessing.resize_mode,
        learning_rate=options.learning_rate or share * LEARNING_RATES[options.optimizer][architecture.name],
    )
    replaced = f"classifier replaced: {len(data.classes)} classes" + (", as asked" if options.reset_classifier else "")
    what = "classifier kept: the classes are the same" if kept else replaced
    notes = (*checkpoint.notes, f"fine-tuning {options.weights}; {what}")
    return TrainedNetwork(
        model,
        architecture,
        preprocessing,
        options,
        checkpoint.source_sha256,
        fresh_classifier=not kept,
        notes=notes,
    )


def replace_classifier(model: GoogLeNet, num_classes: int) -> None:
    """Fresh last layers, of the main and the auxiliary classifiers, for `num_classes` classes, in place."""
    for owner, name in ((model, "fc"), (model.aux1, "fc2"), (model.aux2, "fc2")):
        if owner is not None:
            old = getattr(owner, name)
            layer = nn.Linear(old.in_features, num_classes)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            setattr(owner, name, layer)
    model.num_classes = num_classes


def _adapted(preprocessing: Preprocessing, options: TrainingOptions) -> Preprocessing:
    """A preprocessing with the run's input size, resize and resize mode, if these are given."""
    mode = options.resize_mode or preprocessing.resize_mode
    same_mode = mode == preprocessing.resize_mode
    if options.input_size is None and same_mode:
        return replace(preprocessing, resize=options.resize) if options.resize is not None else preprocessing
    size = options.input_size or preprocessing.crop[0]
    base = preprocessing if same_mode else replace(preprocessing, resize_mode=mode, resize=None)
    return replace(base, crop=(size, size), resize=options.resize or _resize_for(base, size, options))


def _resize_for(preprocessing: Preprocessing, size: int, options: TrainingOptions) -> int | tuple[int, int] | None:
    """The resize for another input size; a stretch or a letterbox keeps its ratio to the crop."""
    if preprocessing.resize_mode == "short-side":
        return _default_resize(size, options)
    if preprocessing.target == preprocessing.crop:
        return None
    height, width = (
        round(size * whole / cut) for whole, cut in zip(preprocessing.target, preprocessing.crop, strict=True)
    )
    return height, width


def stated_short_side(preprocessing: Preprocessing) -> int | None:
    """The short side after resizing, for the record of the options; None if images are resized in another way."""
    return preprocessing.short_side if preprocessing.resize_mode == "short-side" else None


def _default_resize(size: int, options: TrainingOptions) -> int:
    """256 for 224 with random training crops, as for both published networks; otherwise the whole image."""
    return round(size * 256 / 224) if AUGMENTATIONS[options.augmentation].random_crops else size
