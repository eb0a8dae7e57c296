from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError
from googlenet_deploy.export import pipeline
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.passes import simplify
from googlenet_deploy.export.pipeline import export_checkpoint, export_onnx, torch_logits
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import operator_counts, opset_of, serialize


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": load_target("jetpack-4.6")},
        {"convolutional_classifier": True},
        {"uint8_input": True},
        {"uint8_input": True, "average_pool": True, "batch": 2, "opset": 20},
    ],
)
def test_logits_are_those_of_pytorch(
    export_small: Any, checkpoint_of: Any, samples_of: Any, architecture: str, options: dict[str, Any]
) -> None:
    samples = samples_of(architecture)
    result = export_small(architecture, **options)
    logits = run(result.model, samples)["logits"]
    np.testing.assert_allclose(logits, torch_logits(checkpoint_of(architecture).model, samples), atol=1e-4)
    assert [comparison.against for comparison in result.comparisons] == ["the unsimplified graph", "PyTorch"]
    assert all(comparison.holds for comparison in result.comparisons)
    assert (
        not {"Pow", "BatchNormalization", "ReduceMean", "Reshape", "Shape"} & operator_counts(result.model.graph).keys()
    )
    assert len(result.model.graph.node) <= 145


def test_metadata(export_small: Any, checkpoint_of: Any, architecture: str) -> None:
    result = export_small(architecture, target=load_target("tensorrt-8.5"))
    stored = {entry.key.partition(".")[2]: entry.value for entry in result.model.metadata_props}
    assert list(stored) == sorted(stored)
    assert stored["architecture"] == architecture
    assert stored["source_sha256"] == "0" * 64
    assert stored["opset"] == "17"
    assert stored["target"] == "tensorrt-8.5"
    assert json.loads(stored["class_names"]) == list(checkpoint_of(architecture).class_names)
    assert json.loads(stored["preprocessing"])["channels"] == ("BGR" if architecture == "bvlc" else "RGB")
    assert json.loads(stored["tools"])["torch"] == torch.__version__
    for entry in json.loads(stored["verification"]):
        assert entry["largest_difference_at_most"] <= 1e-4
        assert entry["same_class"] == entry["images"] == 4
    assert result.model.producer_name == "googlenet-deploy"
    assert "training_record" not in stored


def test_a_repeat_gives_the_same_bytes(checkpoint_of: Any, samples_of: Any) -> None:
    results = [
        export_checkpoint(checkpoint_of("torchvision"), ExportOptions(average_pool=True), samples_of("torchvision"))
        for _ in range(2)
    ]
    assert serialize(results[0].model) == serialize(results[1].model)


def test_no_path_of_this_machine_is_in_the_file(export_small: Any, architecture: str, repository: Path) -> None:
    content = serialize(export_small(architecture).model)
    assert str(repository).encode() not in content
    assert b"site-packages" not in content
    assert b".py" not in content


def test_a_model_that_differs_from_pytorch_is_refused(captured_of: Any, checkpoint_of: Any, samples_of: Any) -> None:
    wrong = captured_of("bvlc")
    for tensor in wrong.graph.initializer:
        if tensor.name == "fc.bias":
            tensor.raw_data = (np.ones(10, np.float32) * 0.01).tobytes()
    with (
        mock.patch.object(pipeline, "capture", return_value=wrong),
        pytest.raises(VerificationError, match="differs from PyTorch"),
    ):
        export_checkpoint(checkpoint_of("bvlc"), ExportOptions(simplify=False), samples_of("bvlc"))


def test_failed_simplification_is_kept_out_and_said(
    captured_of: Any, checkpoint_of: Any, samples_of: Any, export_small: Any
) -> None:
    with (
        mock.patch.object(pipeline, "capture", return_value=captured_of("bvlc")),
        mock.patch.object(simplify, "_run_worker", return_value=(-11, "")),
    ):
        result = export_checkpoint(checkpoint_of("bvlc"), ExportOptions(), samples_of("bvlc"))
    assert result.notes == ("pass onnxsim was left out, the graph before it is kept: onnxsim crashed (signal 11)",)
    assert "onnxsim" in result.metadata.extra["rejected_passes"]
    assert list(result.model.graph.node) == list(export_small("bvlc").model.graph.node)


def test_the_model_is_given_back_as_it_was(checkpoint_of: Any, samples_of: Any) -> None:
    model = checkpoint_of("bvlc").model
    model.train()
    try:
        torch_logits(model, samples_of("bvlc"))
        assert model.training
    finally:
        model.eval()


def test_weights_are_moved_outside_inference_mode(samples_of: Any) -> None:
    """Weights of a GPU that are moved in it cannot be trained again."""
    modes: list[tuple[str, bool]] = []

    class Watched(nn.Module):
        def cpu(self) -> Watched:
            modes.append(("cpu", torch.is_inference_mode_enabled()))
            return super().cpu()

        def to(self, *places: Any, **options: Any) -> Watched:
            modes.append(("to", torch.is_inference_mode_enabled()))
            return super().to(*places, **options)

        def forward(self, images: Tensor) -> Tensor:
            modes.append(("forward", torch.is_inference_mode_enabled()))
            return images.mean(dim=(2, 3))

    torch_logits(Watched(), samples_of("bvlc"))
    assert modes == [("cpu", False), ("forward", True), ("to", False)]


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"top_k": 0}, {"opset": 12}, {"opset": 14, "target": load_target("jetpack-4.6")}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExportOptions(**options)


def test_top_k_beyond_the_classes(export_small: Any) -> None:
    with pytest.raises(UsageError, match="the model has 10 classes"):
        export_small("bvlc", top_k=11)


def foreign(model: Any, samples: Any, **options: Any) -> Any:
    return export_onnx(__file__, model, ExportOptions(simplify=False, **options), samples)


def test_an_existing_model_keeps_its_opset(export_small: Any, samples_of: Any) -> None:
    model = copy_model(export_small("bvlc", opset=14).model)
    result = foreign(model, samples_of("bvlc"), average_pool=True)
    assert opset_of(result.model) == 14
    assert operator_counts(result.model.graph)["AveragePool"] == 1
    assert result.metadata.preprocessing == export_small("bvlc").metadata.preprocessing
    assert result.notes == ("onnxsim was not run, as asked",)


def test_an_existing_model_can_be_converted(export_small: Any, samples_of: Any) -> None:
    model = copy_model(export_small("torchvision").model)
    result = foreign(model, samples_of("torchvision"), opset=13, uint8_input=True, softmax=True, batch=2)
    assert opset_of(result.model) == 13
    assert result.metadata.preprocessing.dtype == "uint8"
    assert list(run(result.model, samples_of("torchvision"))) == ["probabilities"]


def test_an_unknown_origin_is_said(tiny_classifier: Any) -> None:
    from googlenet_deploy.export.samples import seeded_samples
    from googlenet_deploy.graph.files import input_specification

    model = tiny_classifier()
    samples = seeded_samples(input_specification("m.onnx", model))
    result = foreign(model, samples, average_pool=True)
    assert any("does not state how images are prepared" in note for note in result.notes)
    again = foreign(result.model, samples, average_pool=True)
    assert any("average-pool found nothing to change" in note for note in again.notes)
    assert len(result.metadata.source_sha256) == 64
    with pytest.raises(UsageError, match="carries its preprocessing"):
        foreign(model, samples, uint8_input=True)
    with pytest.raises(BadModelError, match="fixed to 2"):
        foreign(tiny_classifier(batch=2), samples, batch=3)
