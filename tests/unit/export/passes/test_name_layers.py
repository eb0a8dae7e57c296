"""The names are a contract: calibration tables, caches and engines go by them, so they're held by golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.export.passes.name_layers import NameLayers

GOLDEN = Path(__file__).parents[3] / "data"


def listing(model: Any) -> str:
    """One line per node: operator, name, outputs."""
    return "".join(f"{node.op_type} {node.name} {' '.join(node.output)}\n" for node in model.graph.node)


@pytest.mark.parametrize("architecture", ["bvlc", "torchvision", "plain"])
def test_golden_names(export_small: Any, architecture: str) -> None:
    model = export_small(architecture).model
    assert listing(model) == (GOLDEN / f"{architecture}_nodes.txt").read_text(encoding="utf-8")


def test_examples_of_the_documentation(export_small: Any) -> None:
    graph = export_small("bvlc").model.graph
    nodes = {node.name: node for node in graph.node}
    assert list(nodes["inception3a/branch2/1/relu"].output) == ["inception3a/branch2/1"]
    assert list(nodes["inception3a/concat"].output) == ["inception3a"]
    assert list(nodes["inception3a/branch2/1/conv"].input) == [
        "inception3a/branch2/0",
        "inception3a/branch2/1/conv/weight",
        "inception3a/branch2/1/conv/bias",
    ]
    assert list(nodes["fc"].input) == ["flatten", "fc/weight", "fc/bias"]
    assert [value.name for value in [*graph.input, *graph.output]] == ["input", "logits"]


@pytest.mark.parametrize(
    "options",
    [
        {"opset": 13},
        {"batch": 3},
        {"average_pool": True},
        {"uint8_input": True, "softmax": True, "top_k": 3, "average_pool": True},
    ],
)
def test_options_do_not_rename_layers(export_small: Any, architecture: str, options: dict[str, Any]) -> None:
    plain = {name for node in export_small(architecture).model.graph.node for name in node.output}
    optioned = {name for node in export_small(architecture, **options).model.graph.node for name in node.output}
    lost = {name for name in plain - optioned if not name.endswith("/conv")}
    assert not lost


def test_graphs_of_other_tools_keep_their_names(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    assert not NameLayers().run(model)
    assert [node.name for node in model.graph.node] == ["c", "r", "p", "f", "g"]
