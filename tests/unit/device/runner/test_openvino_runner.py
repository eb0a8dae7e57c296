"""OpenVINO gives ONNX Runtime's answers, for float and INT8 models, in every way of running."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.system.processor import sums_int8_exactly
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.export.passes.outputs import FlatOutput

pytest.importorskip("openvino", reason="OpenVINO is not installed (the extra openvino brings it)")

from googlenet_deploy.device.runner import openvino_runner
from googlenet_deploy.device.runner import openvino_runner as openvino_cache
from googlenet_deploy.device.runner.openvino_runner import OpenVinoRunner

MakeNet = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOOGLENET_DEPLOY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def images(count: int) -> Any:
    return np.random.default_rng(count).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)


def reference(path: Path, batch: Any) -> Any:
    with OnnxRuntimeRunner(path, as_is=True) as runner:
        return runner.run(batch)["logits"]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_float_answers_are_onnx_runtimes(make_net: MakeNet, batch: int, count: int) -> None:
    path = make_net(quantized=False)
    with OpenVinoRunner(path, batch=batch, threads=2) as runner:
        assert runner.batch_range == (1, None)
        np.testing.assert_allclose(
            runner.run(images(count))["logits"], reference(path, images(count)), rtol=1e-4, atol=1e-5
        )
        assert runner.notes == []


@pytest.mark.parametrize("seed", range(3))
def test_int8_answers_are_onnx_runtimes(make_net: MakeNet, seed: int) -> None:
    """Signed activations behind a Concat would differ by half of the range here."""
    path = make_net(quantized=True, seed=seed)
    with OpenVinoRunner(path) as runner:
        ours, theirs = runner.run(images(4))["logits"], reference(path, images(4))
        assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()
        # Without VNNI its INT8 sums saturate, so the runner has them computed in floating point.
        expected = "unsigned activations" if sums_int8_exactly() else "computed in floating point"
        assert expected in runner.notes[-1]


def test_an_answer_does_not_depend_on_the_batch(quantized_model: Path) -> None:
    with OpenVinoRunner(quantized_model, batch=8, threads=2) as runner:
        together = runner.run(images(5))["logits"]
        alone = [runner.run(images(5)[index : index + 1])["logits"] for index in range(5)]
        np.testing.assert_array_equal(together, np.concatenate(alone))


def test_models_of_a_fixed_batch(colour_classifier: Callable[..., Path], tmp_path: Path) -> None:
    path = colour_classifier(tmp_path / "m.onnx", batch=2)
    batch = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    with OpenVinoRunner(path, batch=8) as runner, OnnxRuntimeRunner(path) as other:
        assert runner.batch_range == (2, 2)
        ours, theirs = run_any_batch(runner, batch)["logits"], run_any_batch(other, batch)["logits"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        assert runner.metadata == other.metadata
        assert runner.outputs == other.outputs
        assert runner.input == other.input


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_model_of_one_image_may_leave_its_batch_out(
    colour_classifier: Callable[..., Path], tmp_path: Path, count: int
) -> None:
    path = colour_classifier(tmp_path / "m.onnx", batch=1)
    model = onnx.load(path)
    FlatOutput().run(model)
    onnx.save(model, tmp_path / "flat.onnx")
    batch = np.random.default_rng(0).random((count, 3, 8, 8)).astype(np.float32)
    with OpenVinoRunner(tmp_path / "flat.onnx") as flat, OnnxRuntimeRunner(path) as other:
        assert len(flat.outputs[0].shape) == 1
        ours, theirs = run_any_batch(flat, batch)["logits"], run_any_batch(other, batch)["logits"]
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_processor_without_vnni_is_warned_of(quantized_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runner, "is_x86", lambda: True)
    monkeypatch.setattr(openvino_runner, "sums_int8_exactly", lambda: False)
    with OpenVinoRunner(quantized_model) as runner:
        assert "computed in floating point" in runner.notes[0]


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadModelError, match=r"bad\.onnx"):
        OpenVinoRunner(path)


def test_an_operator_that_openvino_does_not_have(make_net: MakeNet, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(make_net(quantized=False)))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Frobnicate", "com.example"
    model.opset_import.add(domain="com.example", version=1)
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(BadModelError, match=r"odd\.onnx: OpenVINO refuses it: .*com\.example\.Frobnicate"):
        OpenVinoRunner(tmp_path / "odd.onnx")


def test_a_failure_while_running_is_one_error(quantized_model: Path) -> None:
    with OpenVinoRunner(quantized_model) as runner, pytest.raises(BadModelError, match="cannot run it"):
        runner.run(np.zeros((1, 3, 5, 5), np.float32))


def test_closed_twice_is_closed(quantized_model: Path) -> None:
    with OpenVinoRunner(quantized_model) as runner:
        runner.close()
    runner.close()


class TestCompiledModels:
    def test_the_second_start_takes_what_the_first_compiled(
        self, quantized_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with OpenVinoRunner(quantized_model) as runner:
            first = runner.run(images(3))["logits"]
        assert len(list(cache.glob("*.compiled"))) == 1
        monkeypatch.setattr(openvino_runner.openvino.Core, "compile_model", None)
        with OpenVinoRunner(quantized_model) as runner:
            np.testing.assert_array_equal(runner.run(images(3))["logits"], first)
            assert runner.notes
            assert str(runner._compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"

    @pytest.mark.parametrize("damage", ["bits", "cut", "empty", "other"])
    def test_a_damaged_one_is_compiled_again(self, quantized_model: Path, cache: Path, damage: str) -> None:
        with OpenVinoRunner(quantized_model) as runner:
            first = runner.run(images(3))["logits"]
        (kept,) = cache.glob("*.compiled")
        content = bytearray(kept.read_bytes())
        for position in range(40, len(content), 97):
            content[position] ^= 255
        other = b"no model"
        kept.write_bytes(
            {
                "bits": bytes(content),
                "cut": kept.read_bytes()[:1000],
                "empty": b"",
                "other": hashlib.sha256(other).digest() + other,
            }[damage]
        )
        with OpenVinoRunner(quantized_model) as runner:
            np.testing.assert_array_equal(runner.run(images(3))["logits"], first)

    def test_other_settings_are_compiled_for_themselves(self, quantized_model: Path, cache: Path) -> None:
        for batch in (1, 8):
            with OpenVinoRunner(quantized_model, batch=batch, threads=2):
                pass
        assert len(list(cache.glob("*.compiled"))) == 2

    def test_the_oldest_of_too_many_go(
        self, quantized_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openvino_cache, "MOST_KEPT", 2)
        cache.mkdir(parents=True)
        for index in range(3):
            old = cache / f"{index}.compiled"
            old.write_bytes(b"x")
            os.utime(old, (index, index))
        with OpenVinoRunner(quantized_model):
            pass
        names = {path.name for path in cache.iterdir()}
        assert len(names) == 2
        assert "2.compiled" in names

    def test_a_cache_that_cannot_be_written_is_done_without(
        self, quantized_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("GOOGLENET_DEPLOY_CACHE", str(tmp_path / "file"))
        with OpenVinoRunner(quantized_model) as runner:
            assert runner.run(images(1))["logits"].shape == (1, 4)


TWO_MODELS = """
import signal, sys
from googlenet_deploy.device.runner.openvino_runner import OpenVinoRunner
first, second = OpenVinoRunner(sys.argv[1]), OpenVinoRunner(sys.argv[1], batch=4)
first.close()
second.close()
del first, second
signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_is_handled_after_two_models_were_closed(make_net: MakeNet) -> None:
    """Two of OpenVINO's plugins leave a freed signal stack behind, on which no handler can run."""
    words = [sys.executable, "-c", TWO_MODELS, str(make_net(quantized=False))]
    process = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (0, "handled\n")
