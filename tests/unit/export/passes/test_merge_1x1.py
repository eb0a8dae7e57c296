from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from googlenet_deploy.export.passes.merge_1x1 import Merge1x1
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import GraphIndex, integers, operator_counts
from googlenet_deploy.graph.pass_manager import PassManager

FLOAT = TensorProto.FLOAT
BRANCHES = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 5]),  # output channels
        st.sampled_from([1, 1, 1, 3]),  # kernel
        st.booleans(),  # bias
        st.booleans(),  # ReLU
        st.sampled_from([1, 1, 2]),  # stride
    ),
    min_size=1,
    max_size=5,
)


def inception(model_of: Any, branches: Any, opset: int, seed: Any = 0) -> Any:
    """Parallel convolutions on one input; those of equal size are concatenated, each of the others is an output."""
    generator = np.random.default_rng(seed)
    nodes, constants, outputs = [], {}, []
    for position, (channels, kernel, bias, relu, stride) in enumerate(branches):
        name = f"module/branch{position}"
        constants[f"{name}/w"] = generator.standard_normal((channels, 3, kernel, kernel)).astype(np.float32)
        inputs = ["input", f"{name}/w"]
        if bias:
            constants[f"{name}/b"] = generator.standard_normal(channels).astype(np.float32)
            inputs.append(f"{name}/b")
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", inputs, [f"{name}/conv"], f"{name}/conv", pads=pads, strides=[stride] * 2)
        )
        if relu:
            nodes.append(helper.make_node("Relu", [f"{name}/conv"], [name], f"{name}/relu"))
        size = 6 // stride
        outputs.append((name if relu else f"{name}/conv", FLOAT, [2, channels, size, size]))
    return model_of(nodes, [("input", FLOAT, [2, 3, 6, 6])], outputs, constants, opset)


def mergeable(branches: Any) -> int:
    return sum(kernel == 1 and relu and stride == 1 for _, kernel, _, relu, stride in branches)


@settings(max_examples=40, deadline=None)
@given(BRANCHES, st.sampled_from([9, 11, 13, 17, 18, 22]))
def test_outputs_stay_and_siblings_merge(model_of: Any, samples_8: Any, branches: Any, opset: int) -> None:
    model = inception(model_of, branches, opset)
    manager = PassManager()
    merged = manager.run(model, [Merge1x1()])
    count = mergeable(branches)
    expected = len(branches) - (count - 1 if count > 1 else 0)
    assert operator_counts(merged.graph)["Conv"] == expected
    assert manager.records[0].changed == (count > 1)
    before, after = run(model, samples_8), run(merged, samples_8)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)


@pytest.fixture(scope="session")
def samples_8() -> Any:
    """Two 3x6x6 images."""
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.samples import seeded_samples

    return seeded_samples(Preprocessing(resize=6, crop=(6, 6)), 2)


def test_a_tensor_that_others_read_is_left_alone(model_of: Any) -> None:
    model = inception(model_of, [(2, 1, True, True, 1)] * 2, 13)
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("module/branch0/conv", FLOAT, [2, 2, 6, 6]))
    assert not Merge1x1().run(model), "the value ahead of a ReLU is an output, so that convolution must stay"


def test_googlenet_has_nine_modules(export_small: Any, architecture: str) -> None:
    graph = export_small(architecture, merge_1x1=True).model.graph
    counts = operator_counts(graph)
    assert counts["Split"] == 9
    assert counts["Conv"] == 57 - 18
    index = GraphIndex(graph)
    split = index.producers["inception4c/branch2/0"]
    assert split.name == "inception4c/merged_1x1/split"
    assert list(split.output) == [f"inception4c/{branch}" for branch in ("branch1", "branch2/0", "branch3/0")]
    assert "inception4c/branch1/conv/weight" not in index.constants


@pytest.mark.parametrize("opset", [11, 13])
def test_split_in_the_form_of_its_opset(model_of: Any, opset: int) -> None:
    model = inception(model_of, [(2, 1, True, True, 1), (5, 1, False, True, 1)], opset)
    Merge1x1().run(model)
    split = next(node for node in model.graph.node if node.op_type == "Split")
    assert integers(split, "split", []) == ([2, 5] if opset < 13 else [])
    assert len(split.input) == (1 if opset < 13 else 2)
