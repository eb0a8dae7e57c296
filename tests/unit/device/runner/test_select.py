from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import BadModelError, UsageError


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_an_onnx_file_runs_in_onnx_runtime(backend: str, colour_model: Path) -> None:
    with open_runner(colour_model, backend, threads=1) as runner:
        assert runner.backend.startswith("ONNX Runtime")


def test_an_unknown_backend_is_refused(colour_model: Path) -> None:
    with pytest.raises(UsageError, match="unknown backend 'abacus': choose one of auto, "):
        open_runner(colour_model, "abacus")


def test_a_missing_model_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match=r"none\.onnx: cannot be read"):
        open_runner(tmp_path / "none.onnx")
