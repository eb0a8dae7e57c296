"""Table 1 of the paper (Szegedy et al. 2014, "Going Deeper with Convolutions", page 6) as data.

The paper's units are not stated. Its parameters fit multiples of 1024 and count weights without biases (conv2: 112 K
= 114,688); its operations fit multiples of a million multiply-adds (3a: 128 M = 128.05). Most rows agree with the
network that the widths in the same row describe; if one does not, `note` states by how much and, as far as known, why.
The tests compare every row with the real network.
"""

from __future__ import annotations

from typing import NamedTuple

from googlenet_deploy.model.architecture import INCEPTION_WIDTHS, STEM_WIDTHS, InceptionWidths

KILO, MEGA = 1024, 1_000_000
# A printed figure agrees if it differs by less than one unit of its last digit.
UNIT = 1.0


class Table1Row(NamedTuple):
    """One row.

    Attributes:
        kind: The paper's first column.
        modules: The modules of our model that the row covers; the last one's output is the row's.
        patch: Side of the window; 0 if the paper does not state it.
        stride: Stride; 0 if the paper does not state it.
        output: (height, width, channels).
        depth: Number of weight layers in sequence.
        reduce3x3: The column "#3x3 reduce" of the second convolution; 0 elsewhere.
        conv3x3: The column "#3x3" of the second convolution; 0 elsewhere.
        widths: The six columns of an Inception module; None for other rows.
        params_k: Parameters as printed, in units of 1024; None if the paper does not state them.
        ops_m: Operations as printed, in millions; None if the paper does not state them.
        note: What is wrong with the printed figures; empty if they agree.
    """

    kind: str
    modules: tuple[str, ...]
    patch: int
    stride: int
    output: tuple[int, int, int]
    depth: int
    reduce3x3: int = 0
    conv3x3: int = 0
    widths: InceptionWidths | None = None
    params_k: float | None = None
    ops_m: float | None = None
    note: str = ""


def _inception(name: str, size: int, params_k: float, ops_m: float, note: str = "") -> Table1Row:
    widths = INCEPTION_WIDTHS[name]
    output = (size, size, widths.out_channels)
    return Table1Row(
        f"inception ({name[-2:]})", (name,), 0, 0, output, 2, widths=widths, params_k=params_k, ops_m=ops_m, note=note
    )


TABLE1: tuple[Table1Row, ...] = (
    Table1Row(
        "convolution",
        ("conv1",),
        7,
        2,
        (112, 112, 64),
        1,
        params_k=2.7,
        ops_m=34,
        note="a full 7x7 convolution has 9,408 weights and 118 M multiply-adds; the figures are those of a separable "
        "one with 8 filters per channel (3 x 49 x 8 + 24 x 64 = 2,712 weights)",
    ),
    Table1Row("max pool", ("maxpool1",), 3, 2, (56, 56, 64), 0),
    Table1Row(
        "convolution",
        ("conv2", "conv3"),
        3,
        1,
        (56, 56, 192),
        2,
        reduce3x3=STEM_WIDTHS[1],
        conv3x3=STEM_WIDTHS[2],
        params_k=112,
        ops_m=360,
    ),
    Table1Row("max pool", ("maxpool2",), 3, 2, (28, 28, 192), 0),
    _inception("inception3a", 28, 159, 128),
    _inception("inception3b", 28, 380, 304, "parameters are 379 K"),
    Table1Row("max pool", ("maxpool3",), 3, 2, (14, 14, 480), 0),
    _inception("inception4a", 14, 364, 73, "parameters are 367 K"),
    _inception("inception4b", 14, 437, 88, "parameters are 438 K"),
    _inception("inception4c", 14, 463, 100, "parameters are 498 K: the printed operations fit that, not 463 K"),
    _inception("inception4d", 14, 580, 119, "parameters are 591 K: the printed operations fit that, not 580 K"),
    _inception("inception4e", 14, 840, 170, "parameters are 847 K"),
    Table1Row("max pool", ("maxpool4",), 3, 2, (7, 7, 832), 0),
    _inception(
        "inception5a", 7, 1072, 54, "parameters are 1018 K and operations 51 M: both figures fit a larger module"
    ),
    _inception("inception5b", 7, 1388, 71, "parameters are 1409 K: the printed operations fit that, not 1388 K"),
    Table1Row("avg pool", ("avgpool",), 7, 1, (1, 1, 1024), 0),
    Table1Row("dropout (40%)", ("dropout",), 0, 0, (1, 1, 1024), 0),
    Table1Row("linear", ("fc",), 0, 0, (1, 1, 1000), 1, params_k=1000, ops_m=1),
)
# The paper's last row, softmax, is not a module of ours: it belongs to the loss, and to `export --softmax`.


def agrees(printed: float | None, real: float, unit: int) -> bool:
    """Whether a printed figure equals the real one to within one unit of its last digit, rounded up or down."""
    return printed is None or abs(printed - real / unit) < UNIT
