from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch

from googlenet_deploy.errors import GoogLeNetDeployError
from googlenet_deploy.export.capture import capture, fold_batch_norm
from googlenet_deploy.graph.graph import operator_counts, opset_of, shape_of
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.googlenet import GoogLeNet


def test_graph_is_the_inference_net(captured_of: Any, architecture: str) -> None:
    model = captured_of(architecture)
    counts = operator_counts(model.graph)
    assert counts["Conv"] == 57
    assert counts.get("LRN", 0) == (2 if architecture == "bvlc" else 0)
    assert not {"BatchNormalization", "Pow", "Dropout", "Sqrt", "Identity"} & counts.keys()
    assert counts["Gemm"] == 1, "the auxiliary classifiers are not exported"
    assert opset_of(model) == 18
    assert shape_of(model.graph.input[0]) == ["batch", 3, 64, 64]
    assert shape_of(model.graph.output[0]) == ["batch", 10]


def test_lrn_keeps_its_parameters(captured_of: Any) -> None:
    lrn = next(node for node in captured_of("bvlc").graph.node if node.op_type == "LRN")
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in lrn.attribute}
    assert values["size"] == 5
    assert values["bias"] == 1.0
    assert values["alpha"] == pytest.approx(1e-4)
    assert values["beta"] == pytest.approx(0.75)


def test_the_model_is_left_as_it_was(checkpoint_of: Any) -> None:
    model = checkpoint_of("torchvision").model
    assert model.aux1 is not None
    assert model.conv1.bn is not None
    assert not model.training


def test_folded_batch_norm_computes_the_same() -> None:
    torch.manual_seed(0)
    model = GoogLeNet(get_architecture("torchvision"), 4, width=0.125).train()
    images = torch.rand(4, 3, 64, 64)
    model(images)  # moves the running statistics away from 0 and 1
    model.eval()
    with torch.inference_mode():
        before = model(images)
        after = fold_batch_norm(model)(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_the_exporter_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    capture(GoogLeNet(get_architecture("bvlc"), 2, width=0.125), (32, 32))
    assert capfd.readouterr() == ("", "")


def test_a_failing_exporter_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        print("chatter")
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(GoogLeNetDeployError, match=r"exporter failed: no such operator$"):
        capture(GoogLeNet(get_architecture("bvlc"), 2, width=0.125), (32, 32))
