from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.runner import select
from googlenet_deploy.device.runner.select import BACKENDS, open_runner
from googlenet_deploy.device.system import processor
from googlenet_deploy.errors import BadModelError, UsageError


def test_an_onnx_file_runs_in_onnx_runtime(colour_model: Path) -> None:
    with open_runner(colour_model, "onnxruntime", threads=1) as runner:
        assert runner.backend.startswith("ONNX Runtime")


def test_an_unknown_backend_is_refused(colour_model: Path) -> None:
    with pytest.raises(UsageError, match="unknown backend 'abacus': choose one of auto, "):
        open_runner(colour_model, "abacus")


def test_a_missing_model_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match=r"none\.onnx: cannot be read"):
        open_runner(tmp_path / "none.onnx")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name.startswith(("onnxruntime", "openvino"))])
def test_engines_are_not_for_runners_of_onnx(backend: str) -> None:
    with pytest.raises(UsageError, match="is a TensorRT engine"):
        open_runner("model.engine", backend)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_runs_engines_alone(backend: str) -> None:
    with pytest.raises(UsageError, match="runs engines") as caught:
        open_runner("model.onnx", backend)
    assert "build model.onnx" in str(caught.value.remedy)


def test_openvino_does_not_run_a_graph_as_it_stands(colour_model: Path) -> None:
    with pytest.raises(UsageError, match="OpenVINO changes every graph"):
        open_runner(colour_model, "openvino", as_is=True)


class TestAuto:
    """The rule that select.py states, on processors that are not here."""

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def make(flags: str, architecture: str = "x86_64", *, installed: bool = True) -> None:
            monkeypatch.setattr(select, "find_spec", lambda name: object() if installed else None)
            for module in (select, processor):
                monkeypatch.setattr(module, "instructions", lambda: frozenset(flags.split()))
            monkeypatch.setattr(processor.platform, "machine", lambda: architecture)

        return make

    @pytest.mark.parametrize(
        ("flags", "architecture", "installed", "for_float", "for_int8"),
        [
            ("avx2 avx512_vnni", "x86_64", True, True, True),
            ("avx2 avx_vnni", "AMD64", True, True, True),
            ("avx2 amx_int8", "x86_64", True, True, True),
            ("avx2", "x86_64", True, True, False),
            ("sse4_2", "x86_64", True, False, False),
            ("asimd asimddp", "aarch64", True, False, False),
            ("avx2 avx512_vnni", "x86_64", False, False, False),
        ],
    )
    def test_openvino_is_taken_where_the_processor_gains(
        self,
        machine: Callable[..., None],
        colour_model: Path,
        quantized_model: Path,
        flags: str,
        architecture: str,
        installed: bool,
        for_float: bool,
        for_int8: bool,
    ) -> None:
        machine(flags, architecture, installed=installed)
        assert select.gains_by_openvino(read_onnx(colour_model)) == for_float
        assert select.gains_by_openvino(read_onnx(quantized_model)) == for_int8

    def test_what_openvino_refuses_runs_in_onnx_runtime(self, machine: Callable[..., None], tmp_path: Path) -> None:
        """OpenVINO has no Det; ONNX Runtime has."""
        machine("avx2 avx512_vnni")
        nodes = [
            helper.make_node("Det", ["image"], ["determinants"]),
            helper.make_node("Flatten", ["determinants"], ["scores"]),
        ]
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])]
        outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])]
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "det.onnx"))
        image = np.random.default_rng(3).standard_normal((2, 3, 8, 8)).astype(np.float32)
        with open_runner(tmp_path / "det.onnx") as runner:
            assert runner.backend.startswith("ONNX Runtime")
            assert [note for note in runner.notes if "OpenVINO refuses it" in note and "Det" in note]
            np.testing.assert_allclose(runner.run(image)["scores"], np.linalg.det(image), rtol=1e-3)
        with pytest.raises(BadModelError, match=r"det\.onnx: OpenVINO refuses it: .*Det"):
            open_runner(tmp_path / "det.onnx", "openvino")

    def test_a_damaged_model_is_one_error(self, machine: Callable[..., None], tmp_path: Path) -> None:
        machine("avx2")
        (tmp_path / "a.onnx").write_bytes(b"rubbish")
        with pytest.raises(BadModelError, match=r"a\.onnx: is not an ONNX model"):
            open_runner(tmp_path / "a.onnx")

    def test_a_graph_as_it_stands_runs_in_onnx_runtime(self, machine: Callable[..., None], colour_model: Path) -> None:
        machine("avx2 avx512_vnni")
        with open_runner(colour_model, as_is=True) as runner:
            assert runner.backend.startswith("ONNX Runtime")
