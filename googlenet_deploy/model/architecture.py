"""The three GoogLeNets as data: their differences, and the widths they share.

Sources: Szegedy et al. 2014, "Going Deeper with Convolutions", Table 1 and section 5; the BVLC model zoo's
``bvlc_googlenet/train_val.prototxt``; torchvision's ``models/googlenet.py`` for names and geometry; for ``plain`` the
tensor names and geometry of the checkpoints of github.com/namduhus/GoogLeNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from googlenet_deploy.errors import UsageError


class InceptionWidths(NamedTuple):
    """Output channels of the six convolutions of one Inception module, in the order of the paper's Table 1."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int

    @property
    def out_channels(self) -> int:
        """Channels of the four concatenated branches."""
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_proj

    def scaled(self, width: float) -> InceptionWidths:
        """The same module with every width multiplied by `width`; see `scale_channels`."""
        return InceptionWidths(*(scale_channels(channels, width) for channels in self))


# Table 1, rows "inception (3a)" to "inception (5b)".
INCEPTION_WIDTHS: dict[str, InceptionWidths] = {
    "inception3a": InceptionWidths(64, 96, 128, 16, 32, 32),
    "inception3b": InceptionWidths(128, 128, 192, 32, 96, 64),
    "inception4a": InceptionWidths(192, 96, 208, 16, 48, 64),
    "inception4b": InceptionWidths(160, 112, 224, 24, 64, 64),
    "inception4c": InceptionWidths(128, 128, 256, 24, 64, 64),
    "inception4d": InceptionWidths(112, 144, 288, 32, 64, 64),
    "inception4e": InceptionWidths(256, 160, 320, 32, 128, 128),
    "inception5a": InceptionWidths(256, 160, 320, 32, 128, 128),
    "inception5b": InceptionWidths(384, 192, 384, 48, 128, 128),
}
STEM_WIDTHS = (64, 64, 192)  # conv1 7x7, conv2 "3x3 reduce", conv3 "3x3"
AUXILIARY_CONV_WIDTH = 128  # section 5: 1x1 convolution with 128 filters
AUXILIARY_HIDDEN_WIDTH = 1024  # section 5: fully connected layer with 1024 units


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one GoogLeNet from the others.

    Attributes:
        name: "bvlc" (the paper's), "torchvision" (TF-slim's, batch-normalised) or "plain" (biases only).
        batch_norm: BatchNorm (eps 0.001) and no convolution biases, instead of biases.
        local_response_norm: LRN after maxpool1 and after conv3, instead of none.
        large_kernel: Kernel of the branch that the paper calls 5x5.
        maxpool4_kernel: Window of the last stride-2 max-pool.
        dropout: Share dropped before the classifier.
        auxiliary_dropout: Share dropped inside the auxiliary classifiers.
        bare_layers: A convolution is a layer of its own (``conv1.weight``) and the branches of a module are ``layer1``
            to ``layer4``, instead of blocks (``conv1.conv.weight``) and ``branch1`` to ``branch4``.
        inner_relu: A ReLU after each convolution of an Inception module, instead of none.
        padded_pools: 3x3 stride-2 max-pools with padding 1, instead of ceil mode without padding.
    """

    name: str
    batch_norm: bool
    local_response_norm: bool
    large_kernel: int
    maxpool4_kernel: int
    dropout: float
    auxiliary_dropout: float
    bare_layers: bool = False
    inner_relu: bool = True
    padded_pools: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "bvlc": Architecture(
        name="bvlc",
        batch_norm=False,
        local_response_norm=True,
        large_kernel=5,
        maxpool4_kernel=3,
        dropout=0.4,
        auxiliary_dropout=0.7,
    ),
    "torchvision": Architecture(
        name="torchvision",
        batch_norm=True,
        local_response_norm=False,
        large_kernel=3,
        maxpool4_kernel=2,
        dropout=0.2,
        auxiliary_dropout=0.7,
    ),
    "plain": Architecture(
        name="plain",
        batch_norm=False,
        local_response_norm=False,
        large_kernel=5,
        maxpool4_kernel=3,
        dropout=0.4,
        auxiliary_dropout=0.7,
        bare_layers=True,
        inner_relu=False,
        padded_pools=True,
    ),
}


def get_architecture(name: str) -> Architecture:
    """Looks an architecture up by name.

    Raises:
        UsageError: There is no architecture of that name.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UsageError(f"unknown architecture {name!r}: choose {', '.join(ARCHITECTURES)}") from None


def scale_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 and at least 8; unchanged for width 1.

    Tensor cores work on channels in multiples of 8 (FP16) or 16 (INT8), so odd widths only waste them.
    """
    return channels if width == 1.0 else max(8, round(channels * width / 8) * 8)
