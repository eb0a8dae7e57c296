"""The paper's Table 1 against what the network really has."""

from __future__ import annotations

import pytest
from table1 import KILO, MEGA, TABLE1, Table1Row, agrees

from googlenet_deploy.model.architecture import ARCHITECTURES, InceptionWidths
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.summary import LayerCost, summarize


@pytest.fixture(scope="module")
def layers() -> dict[str, LayerCost]:
    return {layer.name: layer for layer in summarize(GoogLeNet(ARCHITECTURES["bvlc"])).layers}


def covered(row: Table1Row, layers: dict[str, LayerCost]) -> list[LayerCost]:
    return [layer for name, layer in layers.items() if name.partition(".")[0] in row.modules]


def row_name(row: Table1Row) -> str:
    return "-".join(row.modules)


def test_every_module_stands_in_one_row(layers: dict[str, LayerCost]) -> None:
    rows = [module for row in TABLE1 for module in row.modules]
    assert len(rows) == len(set(rows))
    # The table leaves LRN out; dropout does nothing outside training.
    assert {name.partition(".")[0] for name in layers} - {"norm1", "norm2"} == set(rows) - {"dropout"}


@pytest.mark.parametrize("row", TABLE1, ids=row_name)
def test_output_size(row: Table1Row, layers: dict[str, LayerCost]) -> None:
    if row.modules == ("dropout",):
        assert row.output == next(other.output for other in TABLE1 if other.modules == ("avgpool",))
        return
    height, width, channels = row.output
    output = covered(row, layers)[-1].output
    assert output == ((channels, height, width) if len(output) == 3 else (channels,))


@pytest.mark.parametrize("row", TABLE1, ids=row_name)
def test_patch_and_stride(row: Table1Row, layers: dict[str, LayerCost]) -> None:
    if row.patch and row.kind != "avg pool":
        assert covered(row, layers)[-1].kind == f"{row.kind} {row.patch}x{row.patch}/{row.stride}"


@pytest.mark.parametrize("row", TABLE1, ids=row_name)
def test_depth_counts_weight_layers_in_sequence(row: Table1Row, layers: dict[str, LayerCost]) -> None:
    weighted = [layer for layer in covered(row, layers) if layer.weights]
    depth = 2 if row.widths else len(weighted)
    assert row.depth == depth


@pytest.mark.parametrize("row", [row for row in TABLE1 if row.widths], ids=row_name)
def test_columns_of_inception_modules(row: Table1Row, layers: dict[str, LayerCost]) -> None:
    module = row.modules[0]
    branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    assert InceptionWidths(*(layers[f"{module}.{branch}"].output[0] for branch in branches)) == row.widths
    kinds = [layers[f"{module}.{branch}"].kind for branch in branches]
    assert [kind.split()[1] for kind in kinds] == ["1x1/1", "1x1/1", "3x3/1", "1x1/1", "5x5/1", "1x1/1"]


def test_columns_of_the_second_convolution(layers: dict[str, LayerCost]) -> None:
    row = next(row for row in TABLE1 if row.modules == ("conv2", "conv3"))
    assert (layers["conv2"].output[0], layers["conv3"].output[0]) == (row.reduce3x3, row.conv3x3)


@pytest.mark.parametrize("row", TABLE1, ids=row_name)
def test_parameters_and_operations(row: Table1Row, layers: dict[str, LayerCost]) -> None:
    weights = sum(layer.weights for layer in covered(row, layers))
    operations = sum(layer.multiply_adds for layer in covered(row, layers))
    both_agree = agrees(row.params_k, weights, KILO) and agrees(row.ops_m, operations, MEGA)
    # A note stands exactly where the table is off, so neither can go stale.
    assert both_agree == (not row.note), (weights / KILO, operations / MEGA)
    if not row.note:
        assert (row.params_k is None) == (weights == 0)


def test_the_separable_first_convolution_that_the_note_names(layers: dict[str, LayerCost]) -> None:
    row = TABLE1[0]
    separable = 3 * 49 * 8 + 24 * 64
    assert separable == 2712
    assert row.params_k == pytest.approx(separable / KILO, abs=0.1)
    assert row.ops_m == pytest.approx(separable * 112 * 112 / MEGA, abs=0.5)
    assert layers["conv1"].weights == 9408
    assert layers["conv1"].multiply_adds == 118_013_952
