"""How ONNX Runtime is used on a CPU: an equal form of the model, and batches shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.cpu_graph.forms import Form
from googlenet_deploy.device.runner import onnxruntime_runner
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner

MakeNet = Callable[..., Path]


def images(count: int) -> Any:
    return np.random.default_rng(count).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("quantized", [False, True])
def test_the_form_gives_the_models_answers_and_is_reported(make_net: MakeNet, batch: int, quantized: bool) -> None:
    path = make_net(quantized=quantized)
    with OnnxRuntimeRunner(path, batch=batch, threads=2) as runner, OnnxRuntimeRunner(path, as_is=True) as plain:
        assert plain.notes == []
        assert len(runner.notes) == 1
        assert "--as-is" in runner.notes[0]
        for count in (1, 5):
            ours, theirs = runner.run(images(count))["logits"], plain.run(images(count))["logits"]
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < (0.02 if quantized else 1e-5) * np.abs(theirs).max()


def test_an_answer_does_not_depend_on_the_batch(quantized_model: Path) -> None:
    with OnnxRuntimeRunner(quantized_model, batch=8, threads=2) as runner:
        together = runner.run(images(5))["logits"]
        alone = [runner.run(images(5)[index : index + 1])["logits"] for index in range(5)]
        np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_model_of_a_fixed_batch_runs_whole(colour_classifier: Callable[..., Path], tmp_path: Path) -> None:
    path = colour_classifier(tmp_path / "m.onnx", batch=2)
    batch = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    with OnnxRuntimeRunner(path, batch=8) as runner, OnnxRuntimeRunner(path, batch=1) as other:
        np.testing.assert_array_equal(runner.run(batch)["logits"], other.run(batch)["logits"])


def test_a_form_that_onnx_runtime_refuses_leaves_the_model_as_it_stands(
    quantized_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_runner, "onnxruntime_form", lambda model: Form(b"rubbish", "everything"))
    with OnnxRuntimeRunner(quantized_model) as runner, OnnxRuntimeRunner(quantized_model, as_is=True) as plain:
        assert runner.notes[0].startswith("the model runs unchanged: its form for CPUs is refused (")
        np.testing.assert_array_equal(runner.run(images(2))["logits"], plain.run(images(2))["logits"])


def test_closed_twice_is_closed(quantized_model: Path) -> None:
    with OnnxRuntimeRunner(quantized_model, batch=4) as runner:
        runner.close()
    runner.close()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
def test_published_weights_answer_alike_in_every_form(bvlc_onnx: Path, sample_images: Path, batch: int) -> None:
    from googlenet_deploy.device.images.pipeline import ImageBatches
    from googlenet_deploy.device.images.sources import find_images

    with OnnxRuntimeRunner(bvlc_onnx, batch=batch) as runner, OnnxRuntimeRunner(bvlc_onnx, as_is=True) as plain:
        assert runner.metadata.preprocessing is not None
        sources = find_images([sample_images]).images[:8]
        for prepared in ImageBatches(sources, runner.metadata.preprocessing, 4):
            ours, theirs = runner.run(prepared.array)["logits"], plain.run(prepared.array)["logits"]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-4)
