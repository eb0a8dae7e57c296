"""Options that a task of `bundle` would ignore are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.cli.bundle import PACKERS
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.bundle.manifest import KINDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-only", "--fp32", "m.onnx"], "--device-only does not accept --fp32"),
        (["--device-only", "--target", "orin-nano"], "--device-only does not accept --target"),
        (["--verify", "b.zip", "--images", "photos"], "--verify does not accept --images"),
        (["--verify", "b.zip", "--output", "b"], "--verify does not accept --output"),
        (["--unpack", "b.zip", "--output", "b", "--precision", "int8"], "--unpack does not accept --precision"),
    ],
)
def test_what_packs_no_model_takes_nothing_to_pack(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_kind_of_bundle_has_a_packer() -> None:
    assert tuple(PACKERS) == KINDS
