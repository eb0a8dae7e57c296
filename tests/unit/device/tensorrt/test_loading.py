from __future__ import annotations

import sys
from pathlib import Path

import pytest

from googlenet_deploy.device.tensorrt import loading
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.errors import DeviceError

HERE = "python{}.{}".format(*sys.version_info[:2])


@pytest.fixture(autouse=True)
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "tensorrt").exists()])
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", "/home/user/venv")


def system(root: Path, folder: str) -> None:
    package = root / folder / "dist-packages/tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()


def test_a_virtual_environment_is_named() -> None:
    with pytest.raises(DeviceError, match="No module named") as caught:
        load_tensorrt("tensorrt")
    assert "--system-site-packages" in (caught.value.remedy or "")
    assert "/home/user/venv" in (caught.value.remedy or "")


def test_how_it_is_installed_is_named_for_each_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("/home/user/venv", "/usr"):
        monkeypatch.setattr(sys, "prefix", prefix)
        with pytest.raises(DeviceError) as caught:
            load_tensorrt("tensorrt")
        remedy = caught.value.remedy or ""
        assert "on x86 with an NVIDIA GPU, pip install 'googlenet-deploy[tensorrt]'" in remedy
        assert "on a Jetson, JetPack's own package (apt install python3-libnvinfer)" in remedy
        assert "python3 -m venv --system-site-packages" in remedy


def test_where_the_systems_copy_is(tmp_path: Path) -> None:
    error = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    system(tmp_path, f"usr/lib/{HERE}")
    text = loading._hidden_by_environment("tensorrt", error, tmp_path) or ""
    assert f"it is in {tmp_path}/usr/lib/{HERE}/dist-packages/tensorrt" in text
    assert f"PYTHONPATH={tmp_path}/usr/lib/{HERE}/dist-packages" in text


def test_a_copy_for_another_python_needs_that_python(tmp_path: Path) -> None:
    error = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    system(tmp_path, "usr/lib/python3.6")
    text = loading._hidden_by_environment("tensorrt", error, tmp_path) or ""
    assert "for Python 3.6" in text
    assert "PYTHONPATH" not in text


def test_outside_of_an_environment_nothing_is_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", "/usr")
    error = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    assert loading._hidden_by_environment("tensorrt", error, tmp_path) is None


def test_a_conda_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    error = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    assert f"the conda environment {tmp_path}" in (loading._hidden_by_environment("tensorrt", error, tmp_path) or "")


def test_a_library_that_does_not_load_is_no_matter_of_environments(tmp_path: Path) -> None:
    error = ImportError("libnvinfer.so.8: cannot open shared object file", name="tensorrt.tensorrt")
    assert loading._hidden_by_environment("tensorrt", error, tmp_path) is None
