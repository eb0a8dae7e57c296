"""The benchmark of fine-tuning, on a few of its images and in this process."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.graph.files import load_model, read_metadata


@pytest.mark.usefixtures("bvlc_weights", "sample_images")
def test_three_classes_from_the_published_weights_to_int8(
    repository: Path,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOOGLENET_DEPLOY_DATA", str(data_dir))
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    commands, finetune = import_module("commands"), import_module("finetune")

    def command(*arguments: object) -> object:
        assert main([str(argument) for argument in arguments]) == 0
        return commands.Cost(1.0, 1.0)

    for module in (commands, finetune):
        monkeypatch.setattr(module, "command", command)
    few = ["--images", "50", "--folder", str(tmp_path), "--require", "80"]
    monkeypatch.setattr("sys.argv", ["finetune.py", *few])
    assert finetune.main() == 0
    assert "30 / 10 / 10 images" in capsys.readouterr().out
    for name in ("three.onnx", "three.int8.onnx"):
        metadata = read_metadata(tmp_path / name, load_model(tmp_path / name))
        assert metadata.class_names == ("dog", "object", "other animal")
