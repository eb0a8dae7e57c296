"""The device's self-test: it passes on what was packed, and fails where anything differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.bundle import selftest
from googlenet_deploy.device.bundle.golden import GOLDEN, read_array, read_golden, sqnr
from googlenet_deploy.device.bundle.manifest import MANIFEST, SUMS
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.errors import BadBundleError, DeviceError, MissingExtraError
from googlenet_deploy.packaging.content import BundleContent, write_bundle
from tests.unit.packaging.conftest import changed_byte

OLD_PACKAGES = ("numpy==1.24.4", "pillow==10.4.0", "onnxruntime==1.19.2")


@pytest.fixture
def bundle(jetson_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(jetson_folder, tmp_path / "bundle"))


def repacked(bundle: Path, output: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The bundle with other content and a manifest that fits it: a bundle made by somebody who errs, or forges."""
    content, files = BundleContent(), {}
    manifest = selftest.verify_folder(bundle)
    for item in manifest.files:
        files[item.path] = (bundle / item.path).read_bytes()
    change(files)
    for path, data in files.items():
        content.add_bytes(path, data, "file")
    write_bundle(output, content, content.manifest(manifest.kind, manifest.target, manifest.precision, {}))
    return output


def with_golden(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        values = json.loads(files[GOLDEN])
        change(values)
        files[GOLDEN] = json.dumps(values).encode()

    return edit


def test_it_passes_on_what_was_packed(bundle: Path) -> None:
    checks = selftest.self_test(bundle)
    assert [(check.name, check.ok) for check in checks] == [
        ("files", True),
        ("preparing images", True),
        ("model.int8.onnx", True),
        ("model.onnx", True),
        ("engine", None),
    ]
    assert not selftest.failed(checks)
    assert selftest.check_lines(checks)[-1].startswith("not run")


def test_the_command_tells_and_writes_it(bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["selftest", str(bundle), "--json", str(tmp_path / "checks.json")]) == 0
    assert "ok       model.int8.onnx" in capsys.readouterr().out
    assert [item["ok"] for item in json.loads((tmp_path / "checks.json").read_text())] == [True] * 4 + [None]
    changed_byte(bundle / "build.sh")
    assert main(["selftest", str(bundle)]) == 1
    assert "build.sh was altered" in capsys.readouterr().err


def test_files_only_runs_no_model(bundle: Path) -> None:
    assert [check.name for check in selftest.self_test(bundle, files_only=True)] == ["files", "preparing images"]


def test_every_file_counts(bundle: Path) -> None:
    paths = [MANIFEST, SUMS, *(item.path for item in selftest.verify_folder(bundle).files)]
    for path in paths:
        original = (bundle / path).read_bytes()
        changed_byte(bundle / path)
        with pytest.raises(BadBundleError):
            selftest.self_test(bundle)
        (bundle / path).write_bytes(original)
    selftest.self_test(bundle, files_only=True)


class Bent(OnnxRuntimeRunner):
    """A device whose arithmetic is off."""

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().run(batch)
        return {name: value + np.float32(self.bend) * np.roll(value, 1, axis=1) for name, value in outputs.items()}


def install(monkeypatch: pytest.MonkeyPatch, bend: float) -> None:
    Bent.bend = bend  # type: ignore[attr-defined]
    monkeypatch.setattr(selftest, "open_runner", Bent)


def test_other_answers_fail(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, bend=0.3)
    wrong = selftest.failed(selftest.self_test(bundle))
    assert {check.name for check in wrong} == {"model.int8.onnx", "model.onnx"}
    assert "needed" in wrong[0].text


def test_int8_tolerates_what_fp32_does_not(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, bend=0.02)  # 34 dB
    assert [check.name for check in selftest.failed(selftest.self_test(bundle))] == ["model.onnx"]


def test_the_engine_that_was_built_is_tested(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "on-device").mkdir()
    shutil.copy(bundle / "models/model.int8.onnx", bundle / "on-device/model.engine")
    monkeypatch.setattr(selftest, "open_runner", OnnxRuntimeRunner)
    assert selftest.self_test(bundle)[-1].ok is True
    install(monkeypatch, bend=1.0)
    assert selftest.failed(selftest.self_test(bundle))[-1].name == "engine"


def test_a_named_engine_that_cannot_run_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise DeviceError("no GPU")

    monkeypatch.setattr(selftest, "open_runner", refuse)
    with pytest.raises(DeviceError):
        selftest._check_model(bundle, read_golden(bundle).models[0], "x.engine", read_golden(bundle), np.zeros(1))


def test_where_nothing_runs_that_is_a_failure(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise MissingExtraError("onnxruntime", "runtime")

    monkeypatch.setattr(selftest, "open_runner", refuse)
    checks = selftest.self_test(bundle)
    assert [check.ok for check in checks] == [True, True, None, None, None, False]
    assert "pip3 install onnxruntime" in checks[-1].text


def test_another_preparation_of_images_fails(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = selftest.crop_pixels
    monkeypatch.setattr(selftest, "crop_pixels", lambda image, spec: original(image.rotate(180), spec))
    names = [check.name for check in selftest.failed(selftest.self_test(bundle))]
    assert "preparing images" in names
    monkeypatch.setattr(selftest, "crop_pixels", lambda image, spec: original(image, spec)[:-1])
    assert not selftest.self_test(bundle, files_only=True)[-1].ok


def test_another_number_of_classes_fails(bundle: Path, tmp_path: Path) -> None:
    def cut(files: dict[str, bytes]) -> None:
        path = tmp_path / "short.npy"
        np.save(path, read_array(bundle, "golden/model.npy")[:, :5])
        files["golden/model.npy"] = path.read_bytes()

    wrong = selftest.failed(selftest.self_test(repacked(bundle, tmp_path / "forged", cut)))
    assert "gives 10 classes, on the workstation 5" in wrong[0].text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda files: files.pop(GOLDEN), "cannot be read"),
        (lambda files: files.update({GOLDEN: b"{"}), "is damaged"),
        (with_golden(lambda values: values.pop("images")), "is damaged"),
        (with_golden(lambda values: values["models"][0].update(more=1)), "is damaged"),
        (lambda files: files.update({"golden/pixels.npy": b"\x93NUMPY"}), "is not an array"),
        (lambda files: files.pop("golden/pixels.npy"), "cannot be read"),
        (lambda files: files.pop("preprocessing.json"), "cannot be read"),
    ],
)
def test_a_bundle_of_nonsense_is_refused(
    bundle: Path, tmp_path: Path, change: Callable[[Mapping[str, bytes]], None], match: str
) -> None:
    with pytest.raises(BadBundleError, match=match):
        selftest.self_test(repacked(bundle, tmp_path / "forged", change))


def test_pickles_in_arrays_are_not_loaded(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadBundleError, match="is not an array"):
        read_array(tmp_path, "pickled.npy")


def test_other_kinds_of_bundles_have_no_self_test(tmp_path: Path) -> None:
    content = BundleContent()
    write_bundle(tmp_path / "triton", content, content.manifest("triton", "", "int8", {}))
    with pytest.raises(BadBundleError, match="is a triton bundle"):
        selftest.self_test(tmp_path / "triton")


def test_signal_over_noise() -> None:
    one = np.ones((1, 4), np.float32)
    assert sqnr(one, one) == float("inf")
    assert sqnr(0 * one, one) == -float("inf")
    assert sqnr(one, one * np.float32(0.9)) == pytest.approx(20, abs=1e-4)


@pytest.fixture(scope="session")
def old_python() -> tuple[str, Path]:
    """Python 3.8, and a folder with NumPy, Pillow and ONNX Runtime for it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which("python3.8"), *map(str, sorted(pyenv.glob("versions/3.8.*/bin/python3.8")))]
    works = (name for name in found if name and not subprocess.run([name, "-c", ""], check=False).returncode)
    python = next(works, None)
    if python is None:
        pytest.skip("no Python 3.8")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "googlenet-deploy" / "self-test-3.8"
    if not (cache / "complete").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--python-version", "3.8"]
        command += ["--implementation", "cp", "--target", str(cache), "--upgrade", *OLD_PACKAGES]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"packages for Python 3.8 cannot be installed: {result.stderr.strip().splitlines()[-1:]}")
        (cache / "complete").touch()
    return python, cache


def run_old(old_python: tuple[str, Path], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The bundle's own zipapp, in its folder, with nothing of this checkout or environment."""
    python, packages = old_python
    command = [python, "-s", "googlenet-device.pyz", *arguments]
    environment = {"PYTHONPATH": str(packages), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_oldest_python_passes_it_and_fails_on_every_altered_file(
    bundle: Path, old_python: tuple[str, Path]
) -> None:
    result = run_old(old_python, bundle, "selftest")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok       model.int8.onnx   ONNX Runtime 1.19.2" in result.stdout
    paths = [MANIFEST, SUMS, *(item.path for item in selftest.verify_folder(bundle).files)]
    for path in [*paths[:: max(1, len(paths) // 8)], "googlenet-device.pyz"]:
        original = (bundle / path).read_bytes()
        changed_byte(bundle / path)
        assert run_old(old_python, bundle, "selftest").returncode == 1, path
        (bundle / path).write_bytes(original)


@pytest.mark.parametrize(
    "place", ["../outside.jpg", "/etc/hostname", "on-device/x.jpg", "golden/../../x", "", "no/such.jpg"]
)
@pytest.mark.parametrize("field", ["file", "model", "scores"])
def test_no_path_leads_out_of_the_bundle(bundle: Path, tmp_path: Path, place: str, field: str) -> None:
    entries = "images" if field == "file" else "models"
    forged = repacked(
        bundle, tmp_path / "forged", with_golden(lambda values: values[entries][0].update({field: place}))
    )
    (tmp_path / "outside.jpg").write_bytes(next((bundle / "golden/images").iterdir()).read_bytes())
    with pytest.raises(BadBundleError, match="is not a file of the bundle"):
        selftest.self_test(forged)


def array_bytes(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_bytes() -> bytes:
    import io

    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


ODD_JSON: list[Callable[[dict[str, Any]], None]] = [
    lambda values: values.update(images=[]),
    lambda values: values.update(models=[]),
    lambda values: values.update(images={"a": 1}),
    lambda values: values["images"][0].update(index=True),
    lambda values: values["images"][0].update(index=-1),
    lambda values: values["images"][0].update(index="7"),
    lambda values: values["models"][0].update(min_sqnr="x"),
    lambda values: values["models"][0].update(min_sqnr=float("nan")),
    lambda values: values["models"][0].update(min_sqnr=-1),
    lambda values: values.update(pixel_tolerance=float("inf")),
    lambda values: values.update(engine_min_sqnr=None),
    lambda values: values.update(made_with=3),
    lambda values: values["images"].append(7),
]


@pytest.mark.parametrize("number", range(len(ODD_JSON)))
def test_odd_json_is_one_error_that_names_the_file(
    bundle: Path, tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = repacked(bundle, tmp_path / "forged", with_golden(ODD_JSON[number]))
    assert main(["selftest", str(forged)]) == 1
    err = capsys.readouterr().err
    assert "golden.json" in err.splitlines()[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (GOLDEN, b"\xff\xfe{"),
        (GOLDEN, b"[" * 100_000),
        (GOLDEN, b"3"),
        ("preprocessing.json", b"\xff\xfe"),
        ("preprocessing.json", b'{"crop": 1}'),
        ("preprocessing.json", b"[1]"),
        ("golden/pixels.npy", array_bytes(np.zeros((6, 64, 64, 3), "S4"))),
        ("golden/pixels.npy", array_bytes(np.zeros((6, 64, 64), np.uint8))),
        ("golden/pixels.npy", array_bytes(np.zeros((1, 64, 64, 3), np.uint8))),
        ("golden/pixels.npy", npz_bytes()),
        ("golden/model.npy", array_bytes(np.zeros(3, np.float32))),
        ("golden/model.npy", array_bytes(np.zeros((6, 10), np.complex64))),
        ("golden/model.npy", array_bytes(np.full((6, 10), np.nan, np.float32))),
        ("golden/model.npy", array_bytes(np.zeros((2, 10), np.float32))),
    ],
)
def test_odd_content_is_one_error_that_names_the_file(
    bundle: Path, tmp_path: Path, file: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = repacked(bundle, tmp_path / "forged", lambda files: files.update({file: content}))
    assert main(["selftest", str(forged)]) == 1
    err = capsys.readouterr().err
    assert Path(file).name in err.splitlines()[0]
    assert "Traceback" not in err


def sealed(values: dict[str, Any]) -> str:
    """A manifest with a hash that fits it, as anybody can write one."""
    import hashlib

    values.pop("sha256", None)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    values["sha256"] = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return json.dumps(values, indent=2) + "\n"


ODD_MANIFESTS: list[Callable[[dict[str, Any]], None]] = [
    lambda values: values.update(target="\ud800"),
    lambda values: values["made_from"].update({"\udfff": "x"}),
    lambda values: values["files"][0].update(role="\udc80"),
    lambda values: values["files"][0].update(bytes=float("inf")),
    lambda values: values["files"][0].update(bytes=float("nan")),
    lambda values: values["files"][0].update(bytes=-1),
    lambda values: values["files"][0].update(bytes="12"),
    lambda values: values["files"][0].update(sha256="x" * 64),
    lambda values: values["files"].append(values["files"][0]),
    lambda values: values["files"].append(3),
    lambda values: values.update(files={}),
    lambda values: values.update(made_from=[]),
    lambda values: values.update(version=True),
    lambda values: values.update(version=1e300),
    lambda values: values.update(kind=["jetson"]),
    lambda values: values.update(tool_version=None),
]


@pytest.mark.parametrize("number", range(len(ODD_MANIFESTS)))
@pytest.mark.parametrize("command", [["selftest"], ["bundle", "--verify"]])
def test_odd_manifests_are_one_error(
    bundle: Path, number: int, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    ODD_MANIFESTS[number](values)
    (bundle / MANIFEST).write_text(sealed(values), encoding="utf-8")
    assert main([*command, str(bundle)]) == 1
    err = capsys.readouterr().err
    assert "manifest.json" in err.splitlines()[0]
    assert "Traceback" not in err


def test_the_readme_names_cuda_python_first(bundle: Path) -> None:
    text = (bundle / "README.txt").read_text(encoding="utf-8")
    assert 0 < text.index("pip3 install cuda-python") < text.index("pip3 install pycuda")
    assert "prove no origin" in text
