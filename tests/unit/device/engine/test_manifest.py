from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.engine.manifest import (
    EngineManifest,
    check_fit,
    load_manifest,
    manifest_path,
    mismatches,
    read_manifest,
    sha256_bytes,
    write_engine,
)
from googlenet_deploy.errors import BadModelError, OutputError

ENGINE = b"engine" * 100


def make(**changes: Any) -> EngineManifest:
    manifest = EngineManifest(
        engine_sha256=sha256_bytes(ENGINE),
        engine_bytes=len(ENGINE),
        backend="tensorrt",
        tensorrt_version="8.5.2.2",
        compute_capabilities=("7.2",),
        gpu="Xavier",
        dialect="weakly typed",
        precision="int8",
        flags=("FP16", "INT8"),
        options={"version_compatible": False, "hardware_compatible": None},
        inputs=({"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]},),
        outputs=(),
        batch=(1, 8, 32),
        layers=(),
        layers_note="",
        precision_shares={},
        device_memory_bytes=1,
        timing_cache_sha256="",
        calibration={},
        build_seconds=1.5,
        notes=("a note",),
        source={"metadata": {"googlenet_deploy.architecture": "bvlc"}},
        rebuild="googlenet-deploy build m.onnx --batch 1,8,32",
    )
    return replace(manifest, **changes)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    write_engine(path, ENGINE, make())
    return path


def test_written_and_read_back(engine: Path) -> None:
    assert load_manifest(engine) == make()
    assert load_manifest(engine).metadata == {"googlenet_deploy.architecture": "bvlc"}
    assert engine.read_bytes() == ENGINE


def test_cut_short(engine: Path) -> None:
    engine.write_bytes(ENGINE[:-1])
    with pytest.raises(BadModelError, match=r"599 bytes.*states 600") as caught:
        load_manifest(engine)
    assert "googlenet-deploy build" in (caught.value.remedy or "")


def test_altered(engine: Path) -> None:
    engine.write_bytes(b"X" + ENGINE[1:])
    with pytest.raises(BadModelError, match="hash differs"):
        load_manifest(engine)


def test_manifest_missing(engine: Path) -> None:
    manifest_path(engine).unlink()
    with pytest.raises(BadModelError, match="manifest cannot be read: no such file"):
        load_manifest(engine)


def test_manifest_altered(engine: Path) -> None:
    path = manifest_path(engine)
    path.write_text(path.read_text().replace('"precision": "int8"', '"precision": "fp32"'))
    with pytest.raises(BadModelError, match="was altered: its own hash differs"):
        load_manifest(engine)
    values = json.loads(path.read_text())
    del values["manifest_sha256"]
    path.write_text(json.dumps(values))
    with pytest.raises(BadModelError, match="was altered"):
        read_manifest(engine)


@pytest.mark.parametrize("text", ["", "[]", "{", "nonsense", "[" * 100000])
def test_manifest_damaged(engine: Path, text: str) -> None:
    manifest_path(engine).write_text(text)
    with pytest.raises(BadModelError, match="damaged"):
        read_manifest(engine)


def test_manifest_of_a_later_version(engine: Path) -> None:
    values = json.loads(manifest_path(engine).read_text())
    manifest_path(engine).write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(BadModelError, match="format 2"):
        read_manifest(engine)


def test_every_mismatch_is_named_with_the_command_that_rebuilds(engine: Path) -> None:
    with pytest.raises(BadModelError) as caught:
        check_fit(engine, make(), "tensorrt", "10.3.0", (8, 7))
    message = caught.value.message
    assert "built by tensorrt 8.5.2.2, here is 10.3.0" in message
    assert "compute capability 7.2, here is 8.7" in message
    assert "googlenet-deploy build m.onnx --batch 1,8,32" in (caught.value.remedy or "")


def test_fits_where_it_was_built() -> None:
    assert mismatches(make(), "tensorrt", "8.5.2.2", (7, 2)) == []
    assert mismatches(make(), "tensorrt", "8.5.2.2", None) == []


def test_only_a_strongly_typed_engine_has_the_types_of_its_model() -> None:
    assert make(dialect="strongly typed", precision="bf16").model_type == "bf16"
    assert make(dialect="weakly typed", precision="int8").model_type == ""


def test_another_backend() -> None:
    assert mismatches(make(), "tensorrt-rtx", "8.5.2.2", None) == ["it is for tensorrt, here is tensorrt-rtx"]


def test_version_compatible_engines_run_on_later_ones_of_the_same_major() -> None:
    manifest = make(options={"version_compatible": True}, tensorrt_version="10.3.0")
    assert mismatches(manifest, "tensorrt", "10.16.2", None) == []
    assert mismatches(manifest, "tensorrt", "10.1.0", None)
    assert mismatches(manifest, "tensorrt", "11.0.0", None)


def test_ampere_plus_engines_run_on_later_gpus() -> None:
    manifest = make(options={"hardware_compatible": "ampere+"}, compute_capabilities=("8.6",))
    assert mismatches(manifest, "tensorrt", "8.5.2", (8, 9)) == []
    assert mismatches(manifest, "tensorrt", "8.5.2", (7, 5))


def test_neither_file_appears_where_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    manifest_path(path).mkdir()  # in the manifest's place
    with pytest.raises(OutputError):
        write_engine(path, ENGINE, make())
    assert not path.exists()


LAYER = {
    "name": "c", "kind": "convolution", "dtype": "fp16", "multiply_adds": 10, "inputs": [["x", "fp32"]],
    "outputs": [["c", "fp16"]], "tactic": "t", "nodes": ["c"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("inputs", "NaN", "inputs"),
        ("inputs", [{"name": "x", "dtype": "float32"}], r"inputs\[0\].shape"),
        ("outputs", [{"name": 1, "dtype": "float32", "shape": []}], r"outputs\[0\].name"),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": [True]}], "a shape contains"),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": [{}]}], "a shape contains"),
        ("layers", [{**LAYER, "inputs": [["x"]]}], r"layers\[0\].inputs\[0\]"),
        ("layers", [{**LAYER, "multiply_adds": "10"}], r"layers\[0\].multiply_adds"),
        ("layers", [{**LAYER, "colour": "red"}], "unknown entry 'colour'"),
        ("layers", {"0": LAYER}, "layers is not a list"),
        ("layers", [None], r"layers\[0\] is not an object"),
        ("calibration", ["x"], "calibration"),
        ("batch", [1], "batch"),
        ("batch", [1, "8", 32], r"batch\[1\]"),
        ("batch", "1,8,32", "batch"),
        ("dla", "x", "dla"),
        ("dla", {"core": 0, "layers": 3}, "dla.gpu_layers"),
        ("precision_shares", -1, "precision_shares"),
        ("precision_shares", {"layers": {"fp16": "all"}}, "precision_shares.layers.fp16"),
        ("source", [], "source"),
        ("source", {"metadata": ["a"]}, "source.metadata"),
        ("source", {"metadata": {"a": 1}}, "source.metadata.a"),
        ("engine_bytes", None, "engine_bytes"),
        ("engine_bytes", True, "engine_bytes"),
        ("tensorrt_version", 8, "tensorrt_version"),
        ("compute_capabilities", "8.7", "compute_capabilities"),
        ("compute_capabilities", [8.7], r"compute_capabilities\[0\]"),
        ("device_memory_bytes", "many", "device_memory_bytes"),
        ("notes", [["x"]], r"notes\[0\]"),
        ("options", None, "options"),
    ],
)
def test_a_sealed_manifest_of_other_types_is_damaged(engine: Path, name: str, value: Any, place: str) -> None:
    values = {**make().to_dict(), name: value}
    values.pop("manifest_sha256")
    seal = sha256_bytes(json.dumps(values, sort_keys=True).encode())
    manifest_path(engine).write_text(json.dumps({**values, "manifest_sha256": seal}))
    with pytest.raises(BadModelError, match=rf"m\.engine\.json: the engine's manifest is damaged: manifest.*{place}"):
        read_manifest(engine)


def test_layers_and_dla_survive(engine: Path) -> None:
    layer = {**LAYER, "inputs": (("x", "fp32"),), "outputs": (("c", "fp16"),), "nodes": ("c",)}
    manifest = make(layers=(layer,), dla={"core": 0, "layers": 2, "gpu_layers": ["c"]}, batch=None)
    write_engine(engine, ENGINE, manifest)
    found = load_manifest(engine)
    assert found.dla == manifest.dla
    assert found.batch is None
    assert found.layers[0]["inputs"] == [["x", "fp32"]]


def test_two_builds_of_one_output_leave_an_engine_with_its_own_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is slow to rename its manifest, the other its engine, so that the pairs would be mixed."""
    path, rename = tmp_path / "new" / "m.engine", Path.replace
    waits = {"quick": {".json": 0.05, ".engine": 0.05}, "slow": {".json": 0.0, ".engine": 0.3}}

    def slowly(self: Path, target: Path) -> Path:
        time.sleep(waits[threading.current_thread().name][target.suffix])
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", slowly)
    threads = []
    for name in waits:
        engine = name.encode() * 50
        manifest = make(engine_sha256=sha256_bytes(engine), engine_bytes=len(engine))
        threads.append(threading.Thread(target=write_engine, args=(path, engine, manifest), name=name))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    load_manifest(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["m.engine", "m.engine.json"]
