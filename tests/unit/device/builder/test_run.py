from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_builder import Behaviour, FakeDriver, Flag, builder_module
from fake_cuda import FakeGpu, install
from PIL import Image

from googlenet_deploy.device import signals as interruption
from googlenet_deploy.device.builder import run as under_test
from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildResult
from googlenet_deploy.device.builder.run import build_engine, dry_run, find_here, make_request
from googlenet_deploy.device.engine.manifest import load_manifest, manifest_path
from googlenet_deploy.device.files import sha256_file
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import (
    BadModelError,
    BadTableError,
    DeviceError,
    InputError,
    OutputError,
    UsageError,
)

Model = Callable[..., str]
CACHE = b"TRT-100300-EntropyCalibration2\ninput: 3c010a14\nb: 3c010a14\n"


def build(model: str, output: Path, step: Any = None, **options: Any) -> BuildResult:
    chosen = BuildOptions(**options)
    here = find_here(None, chosen, None)
    request = make_request(model, chosen, here, "googlenet-deploy build m.onnx")
    return build_engine(request, here.library, str(output), step=step)


def test_engine_and_manifest(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    path, output = model(), tmp_path / "out" / "m.engine"
    result = build(path, output, precision="fp16", batch=(1, 4, 8), workspace_bytes=2**20)
    manifest = load_manifest(output)
    assert manifest.to_json() == result.manifest.to_json()
    assert output.read_bytes() == result.engine
    assert (manifest.backend, manifest.tensorrt_version, manifest.gpu) == ("tensorrt", "10.3.0", "Fake GPU")
    assert (manifest.compute_capabilities, manifest.batch) == (("8.7",), (1, 4, 8))
    assert (manifest.dialect, manifest.precision, manifest.flags) == ("weakly typed", "fp16", ("FP16",))
    assert manifest.precision_shares["multiply_adds"] == {"fp16": 1.0}
    assert (manifest.layers_from, manifest.device_memory_bytes) == ("engine inspector", 4096)
    assert manifest.source["sha256"] == sha256_file(path)
    assert manifest.metadata["googlenet_deploy.architecture"] == "bvlc"
    assert manifest.rebuild == "googlenet-deploy build m.onnx"
    (config,) = behaviour.configs
    assert config.pools == {"workspace": 2**20}
    assert config.profiles[0].shapes == ("input", (1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))


def test_every_option_reaches_tensorrt(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    options = {
        "optimization_level": 5,
        "tactic_sources": ("cublas", "CUDNN"),
        "version_compatible": True,
        "hardware_compatible": "ampere+",
        "strip_plan": True,
        "sparsity": True,
        "tf32": False,
        "verbosity": "names",
    }
    build(model(batch=2), tmp_path / "m.engine", **options)
    (config,) = behaviour.configs
    assert config.flags == {Flag.VERSION_COMPATIBLE, Flag.STRIP_PLAN, Flag.REFIT_IDENTICAL, Flag.SPARSE_WEIGHTS}
    assert (config.builder_optimization_level, config.tactics) == (5, 0b101)
    assert config.hardware_compatibility_level == "ampere+"
    assert config.profiling_verbosity.name == "LAYER_NAMES_ONLY"
    assert config.profiles == []


def test_a_stripped_plan_that_takes_any_weights(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    build(model(), tmp_path / "m.engine", strip_plan=True, refit=True)
    assert {Flag.STRIP_PLAN, Flag.REFIT} <= behaviour.configs[0].flags
    assert Flag.REFIT_IDENTICAL not in behaviour.configs[0].flags


def test_lrn_is_kept_in_fp32_by_operator_and_others_by_name(
    behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[Any] = []
    real = under_test.BuildSession
    monkeypatch.setattr(under_test, "BuildSession", lambda *rest: networks.append(real(*rest)) or networks[-1])
    build(model(), tmp_path / "m.engine", precision="fp16", keep_fp32=("LRN", "conv2"))
    precision = {layer.name: layer.precision for layer in networks[0].network.layers}
    assert precision["norm"].name == precision["conv2"].name == "FLOAT"
    assert precision["conv1"] is None
    assert Flag.PREFER_PRECISION_CONSTRAINTS in behaviour.configs[0].flags


def test_progress_counts_the_steps_of_all_phases(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    build(model(), tmp_path / "m.engine", step=lambda *step: steps.append(step))
    assert steps == [
        *(("Building Engine", done, 3) for done in (1, 2, 3)),
        *(("Tactic Selection", d, 2) for d in (1, 2)),
    ]


def test_control_c_cancels_in_good_order_and_writes_nothing(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    output = tmp_path / "m.engine"
    with pytest.raises(KeyboardInterrupt):
        # To this very thread: another one could take it, and it would come after the build.
        build(model(), output, step=lambda *_: signal.raise_signal(signal.SIGINT))
    assert behaviour.cancelled
    assert not output.exists()
    assert not manifest_path(output).exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("owner", "method"), [("OnnxParser", "parse"), ("Runtime", "deserialize_cuda_engine")])
def test_control_c_that_a_call_back_swallows_is_not_lost(
    owner: str, method: str, behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT logs while it parses and inspects, and its binding prints an exception of the logger and goes on."""
    kind = getattr(sys.modules["tensorrt"], owner)
    work = getattr(kind, method)

    def pressed(self: Any, *arguments: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return work(self, *arguments)

    monkeypatch.setattr(kind, method, pressed)
    with pytest.raises(KeyboardInterrupt):
        build(model(), tmp_path / "m.engine")
    assert not (tmp_path / "m.engine").exists()


def test_without_a_monitor_control_c_ends_the_process_while_tensorrt_builds() -> None:
    with interruption.interruptible(monitored=False):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_leave_signals_alone(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    results: list[Any] = []
    path = model()
    worker = threading.Thread(target=lambda: results.append(build(path, tmp_path / "m.engine")))
    worker.start()
    worker.join()
    assert results[0].manifest.precision == "fp32"


def test_qdq_is_removed_where_the_gpu_has_no_int8(
    behaviour: Behaviour, driver: FakeDriver, model: Model, tmp_path: Path
) -> None:
    driver.values.update({75: 5, 76: 3})
    result = build(model("qdq"), tmp_path / "m.engine")
    assert result.manifest.precision == "fp16"
    assert "4 Q/DQ nodes removed" in result.manifest.notes
    assert result.manifest.precision_shares["convolutions"] == {"fp16": 1.0}


def test_int8_without_fast_int8_is_said(behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
    behaviour.fast_int8 = False
    notes = build(model("qdq"), tmp_path / "m.engine").manifest.notes
    assert "TensorRT 10.3.0 reports that this GPU has no fast INT8" in notes


class TestTimingCache:
    def test_new_reused_and_extended(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        cache, output, path = tmp_path / "t.cache", tmp_path / "m.engine", model()
        notes = build(path, output, timing_cache=str(cache)).manifest.notes
        assert any("new, so every kernel is timed" in note for note in notes)
        assert cache.read_bytes() == b"t"
        result = build(path, output, timing_cache=str(cache))
        assert any("some kernels were not in it" in note for note in result.manifest.notes)
        assert result.manifest.timing_cache_sha256 == sha256_file(cache)
        behaviour.new_timings = b""
        notes = build(path, output, timing_cache=str(cache)).manifest.notes
        assert any("every kernel was in it" in note for note in notes)

    def test_of_another_version_is_replaced(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache, output, path = tmp_path / "t.cache", tmp_path / "m.engine", model()
        build(path, output, timing_cache=str(cache))
        monkeypatch.setitem(sys.modules, "tensorrt", builder_module(behaviour, "10.7.0"))
        notes = build(path, output, timing_cache=str(cache)).manifest.notes
        assert any("made by TensorRT 10.3.0 on Fake GPU, not TensorRT 10.7.0" in note for note in notes)

    def test_damaged_or_foreign(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        cache, output, path = tmp_path / "t.cache", tmp_path / "m.engine", model()
        build(path, output, timing_cache=str(cache))
        cache.write_bytes(b"x")
        assert any("damaged" in note for note in build(path, output, timing_cache=str(cache)).manifest.notes)
        Path(f"{cache}.json").unlink()
        with pytest.raises(InputError, match="is not a timing cache of this tool"):
            build(path, output, timing_cache=str(cache))

    def test_that_tensorrt_does_not_want(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.wants_cache = False
        notes = build(model(), tmp_path / "m.engine", timing_cache=str(tmp_path / "t")).manifest.notes
        assert any("rejected the timing cache" in note for note in notes)


class TestCalibration:
    def test_cache(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        cache = tmp_path / "c.cache"
        cache.write_bytes(CACHE)
        result = build(model(), tmp_path / "m.engine", calibration_cache=str(cache))
        assert result.manifest.flags == ("FP16", "INT8")
        assert result.manifest.calibration == {
            "cache": str(cache),
            "cache_sha256": sha256_file(cache),
            "tensors": 2,
        }
        assert not any("no scale" in note for note in result.manifest.notes)

    def test_scales_that_a_cache_lacks_are_named(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        cache = tmp_path / "c.cache"
        cache.write_bytes(CACHE.replace(b"b: 3c010a14\n", b""))
        notes = build(model(), tmp_path / "m.engine", calibration_cache=str(cache)).manifest.notes
        assert any("no scale for the input of 1 of 2 layers" in note and note.endswith(": b") for note in notes)

    def test_a_cache_that_tensorrt_ignores_is_an_error(
        self, behaviour: Behaviour, model: Model, tmp_path: Path
    ) -> None:
        behaviour.reads_cache = False
        cache = tmp_path / "c.cache"
        cache.write_bytes(CACHE)
        with pytest.raises(DeviceError, match="did not read the calibration cache"):
            build(model(), tmp_path / "m.engine", calibration_cache=str(cache))
        assert not (tmp_path / "m.engine").exists()

    def test_a_cache_that_tensorrt_reads_and_rejects_is_an_error(
        self, behaviour: Behaviour, model: Model, tmp_path: Path
    ) -> None:
        behaviour.takes_cache = False
        cache = tmp_path / "c.cache"
        cache.write_bytes(CACHE)
        with pytest.raises(DeviceError, match="rejected the calibration cache") as caught:
            build(model(), tmp_path / "m.engine", calibration_cache=str(cache))
        assert "--tensorrt-version 10.3.0" in (caught.value.remedy or "")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "its first line"),
            (b"TRT-8502-Legacy\ninput: 3c010a14\n", "its first line"),
            (b"TRT-8502-EntropyCalibration2\n", "no entry"),
            (b"TRT-8502-EntropyCalibration2\ninput 3c010a14\n", "the line"),
            (b"\x00\x01\x02", "its first line"),
        ],
    )
    def test_what_is_no_cache_is_refused(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, content: bytes, words: str
    ) -> None:
        cache = tmp_path / "c.cache"
        cache.write_bytes(content)
        with pytest.raises(BadTableError, match=words):
            build(model(), tmp_path / "m.engine", calibration_cache=str(cache))

    def test_missing_cache(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        with pytest.raises(BadTableError, match="cannot be read: no such file"):
            build(model(), tmp_path / "m.engine", calibration_cache=str(tmp_path / "none"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    install(monkeypatch, fake)
    return fake


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "9.png").write_bytes(b"no image")
    return folder


class TestLiveCalibration:
    def test_images_go_through_device_memory_and_are_counted(
        self, behaviour: Behaviour, gpu: FakeGpu, model: Model, photos: Path, tmp_path: Path
    ) -> None:
        done: list[int] = []
        options = BuildOptions(calibration_images=str(photos), batch=(1, 2, 4), calibration_algorithm="minmax")
        here = find_here(None, options, None)
        request = make_request(model(), options, here)
        result = build_engine(request, here.library, str(tmp_path / "m.engine"), calibrated=done.append)
        facts = result.manifest.calibration
        assert (facts["images"], facts["left_out"], len(facts["skipped"])) == (4, 1, 1)
        assert facts["algorithm"] == "minmax"
        assert len(facts["cache_sha256"]) == 64
        assert done == [2, 2]
        assert len(behaviour.batches) == 2
        assert gpu.copies.count("cudaMemcpyHostToDevice") == 2
        assert gpu.live == set()
        assert {
            "calibration left 1 images out: they fill no batch",
            "calibration left 1 images out: they cannot be used",
        } <= set(result.manifest.notes)

    def test_fewer_images_than_a_batch(
        self, behaviour: Behaviour, gpu: FakeGpu, model: Model, photos: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DeviceError, match="not enough usable images for one batch of 8"):
            build(model(), tmp_path / "m.engine", calibration_images=str(photos), batch=(1, 8, 8))

    def test_device_memory_that_runs_out_is_raised_after_the_build(
        self, behaviour: Behaviour, gpu: FakeGpu, model: Model, photos: Path, tmp_path: Path
    ) -> None:
        gpu.limit = 16
        with pytest.raises(DeviceError, match="out of memory"):
            build(model(), tmp_path / "m.engine", calibration_images=str(photos))
        assert gpu.live == set()

    def test_a_fixed_batch_is_the_calibrations_batch(
        self, behaviour: Behaviour, gpu: FakeGpu, model: Model, photos: Path, tmp_path: Path
    ) -> None:
        facts = build(model(batch=5), tmp_path / "m.engine", calibration_images=str(photos)).manifest.calibration
        assert facts["images"] == 5

    def test_a_model_that_says_nothing_of_its_images(
        self, behaviour: Behaviour, gpu: FakeGpu, model: Model, photos: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(BadModelError, match="does not state how images are prepared"):
            build(model(described=False), tmp_path / "m.engine", calibration_images=str(photos))

    def test_a_folder_without_images(self, behaviour: Behaviour, gpu: FakeGpu, model: Model, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError):
            build(model(), tmp_path / "m.engine", calibration_images=str(tmp_path / "empty"))


class TestDla:
    def test_coverage_goes_into_the_manifest(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.dla_refuses = {"norm"}
        result = build(model(batch=1), tmp_path / "m.engine", precision="fp16", dla_core=1)
        assert result.manifest.dla == {"core": 1, "layers": 3, "gpu_layers": ["norm"]}
        assert Flag.GPU_FALLBACK in behaviour.configs[0].flags

    def test_without_fallback_a_layer_that_it_cannot_run_is_named_first(
        self, behaviour: Behaviour, model: Model, tmp_path: Path
    ) -> None:
        behaviour.dla_refuses = {"norm"}
        with pytest.raises(DeviceError, match="cannot run 1 of 3 layers: norm"):
            build(model(batch=1), tmp_path / "m.engine", precision="fp16", dla_core=0, gpu_fallback=False)

    def test_a_core_that_is_not_there(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="has 2 DLA cores, so there is no core 2"):
            build(model(batch=1), tmp_path / "m.engine", precision="fp16", dla_core=2)


class TestFailures:
    def test_an_unknown_operator_is_named_with_its_node(
        self, behaviour: Behaviour, model: Model, tmp_path: Path
    ) -> None:
        with pytest.raises(BadModelError, match=r"refuses it at node strange \(Foo\): No importer") as caught:
            build(model("foo"), tmp_path / "m.engine")
        assert "Foo does not exist in this TensorRT" in (caught.value.remedy or "")

    def test_out_of_memory(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.error = "Requested amount of GPU memory could not be allocated: OutOfMemory (no further information)"
        with pytest.raises(DeviceError, match="ran out of memory"):
            build(model(), tmp_path / "m.engine")

    def test_any_other_refusal_has_tensorrts_words(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.error = "Could not find any implementation for node conv1"
        with pytest.raises(BadModelError, match="cannot build it: Could not find any implementation"):
            build(model(), tmp_path / "m.engine")

    def test_no_builder(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.no_gpu = True
        with pytest.raises(DeviceError, match=r"cannot start a builder .*error: 35"):
            build(model(), tmp_path / "m.engine")

    def test_no_gpu(self, behaviour: Behaviour, driver: FakeDriver, model: Model, tmp_path: Path) -> None:
        driver.status["cuInit"] = 100
        with pytest.raises(DeviceError, match=r"no GPU to build for: .*cuInit") as caught:
            build(model(), tmp_path / "m.engine")
        assert "--dry-run --target" in (caught.value.remedy or "")

    def test_no_tensorrt(self, driver: FakeDriver, model: Model, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="TensorRT cannot be loaded"):
            build(model(), tmp_path / "m.engine")

    def test_no_parser(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(sys.modules["tensorrt"], "OnnxParser")
        with pytest.raises(DeviceError, match="has no ONNX parser") as caught:
            build(model(), tmp_path / "m.engine")
        assert caught.value.remedy == "apt install libnvonnxparsers10"

    def test_tensorrt_of_jetpack_4(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", builder_module(behaviour, "8.2.1.8"))
        with pytest.raises(DeviceError, match=r"8\.2\.1\.8 is installed; 8\.5 or later is needed") as caught:
            build(model(), tmp_path / "m.engine")
        assert "trtexec" in (caught.value.remedy or "")

    def test_too_little_memory_is_found_before_the_build(
        self, behaviour: Behaviour, driver: FakeDriver, model: Model, tmp_path: Path
    ) -> None:
        driver.free = 100
        with pytest.raises(DeviceError, match="three times its size"):
            build(model(), tmp_path / "m.engine")

    def test_a_workspace_beyond_the_memory_is_said(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        notes = build(model(), tmp_path / "m.engine", workspace_bytes=2**40).manifest.notes
        assert any("workspace limit" in note for note in notes)

    def test_an_engine_that_cannot_be_loaded_has_no_layers(
        self, behaviour: Behaviour, model: Model, tmp_path: Path
    ) -> None:
        behaviour.loads = False
        result = build(model(), tmp_path / "m.engine")
        assert result.layers is None
        assert "cannot be loaded here" in result.manifest.layers_note

    def test_an_inspector_that_prints_nonsense(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        behaviour.inspection = "{}"
        result = build(model(), tmp_path / "m.engine")
        assert result.layers is None
        assert "cannot be read" in result.manifest.layers_note
        assert result.manifest.device_memory_bytes == 4096

    def test_a_model_without_output(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        with pytest.raises(BadModelError, match="found no output"):
            build(model(name="no-output.onnx"), tmp_path / "m.engine")

    def test_what_is_no_onnx(self, behaviour: Behaviour, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        path.write_bytes(b"not a model")
        with pytest.raises(BadModelError, match="is not an ONNX model"):
            build(str(path), tmp_path / "m.engine")
        with pytest.raises(BadModelError, match="cannot be read"):
            build(str(tmp_path / "none.onnx"), tmp_path / "m.engine")

    def test_an_input_that_is_text(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        path = model()
        proto = onnx.load(path)
        proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
        onnx.save(proto, path)
        with pytest.raises(BadModelError, match="its input input is of type string"):
            build(path, tmp_path / "m.engine")

    def test_more_open_than_the_batch(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        """The preprocessing's crop fixes height and width; without one, nothing does."""
        path = model()
        proto = onnx.load(path)
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
        onnx.save(proto, path)
        build(path, tmp_path / "m.engine")
        del proto.metadata_props[:]
        onnx.save(proto, path)
        with pytest.raises(BadModelError, match="leaves more open than the batch"):
            build(path, tmp_path / "m.engine")

    def test_a_full_disk_leaves_what_was_there(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, output = model(), tmp_path / "m.engine"
        build(path, output)
        before = output.read_bytes(), manifest_path(output).read_bytes()

        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="no space left on device"):
            build(path, output, precision="fp16")
        monkeypatch.undo()
        assert (output.read_bytes(), manifest_path(output).read_bytes()) == before
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.engine", "m.engine.json", "m.onnx"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"tactic_sources": ("cudnn", "magic")}, "has no tactic source magic"),
            ({"hardware_compatible": "same-compute-capability"}, "has no hardware compatibility level"),
        ],
    )
    def test_what_this_version_does_not_have(
        self, behaviour: Behaviour, model: Model, tmp_path: Path, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(DeviceError, match=words):
            build(model(), tmp_path / "m.engine", **options)


class TestHere:
    def test_target_and_backend_may_not_contradict(self, behaviour: Behaviour) -> None:
        with pytest.raises(UsageError, match="contradict"):
            find_here("tensorrt-rtx", BuildOptions(), load_target("orin-nano"))
        with pytest.raises(UsageError, match="contradict"):
            find_here("tensorrt", BuildOptions(), load_target("tensorrt-rtx"))

    def test_any_tensorrt_of_the_modules_jetpacks_will_do(self, behaviour: Behaviour) -> None:
        assert find_here(None, BuildOptions(), load_target("orin-nano")).site.compute_capability == (8, 7)

    def test_a_target_with_another_tensorrt_or_gpu(self, behaviour: Behaviour) -> None:
        with pytest.raises(DeviceError, match=r"jetpack-5\.1 has TensorRT 8\.5, here is TensorRT 10\.3\.0"):
            find_here(None, BuildOptions(), load_target("jetpack-5.1"))
        with pytest.raises(DeviceError, match=r"has TensorRT 8\.2"):
            find_here(None, BuildOptions(), load_target("nano"))

    def test_a_target_on_another_gpu(self, behaviour: Behaviour, driver: FakeDriver) -> None:
        driver.values[76] = 6
        with pytest.raises(DeviceError, match=r"orin-nano is not this machine, which has compute capability 8\.6"):
            find_here(None, BuildOptions(), load_target("orin-nano"))


class TestDryRun:
    def test_here(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        found = dry_run(model("qdq"), BuildOptions(), None, None)
        assert (found.parser, found.layers, found.placements) == ("TensorRT 10.3.0", 7, None)
        assert found.plan.precision == "int8"
        assert [site.label for site in found.sites()] == ["TensorRT 10.3.0"]
        assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]

    def test_what_is_noticed_beside_the_plan(self, behaviour: Behaviour, model: Model, tmp_path: Path) -> None:
        cache = tmp_path / "c.cache"
        cache.write_bytes(CACHE.replace(b"b: 3c010a14\n", b""))
        found = dry_run(model(), BuildOptions(calibration_cache=str(cache)), None, None)
        assert any("no scale for the input of 1 of 2 layers" in note for note in found.notes)

    def test_here_on_the_dla(self, behaviour: Behaviour, model: Model) -> None:
        behaviour.dla_refuses = {"norm"}
        found = dry_run(model(batch=1), BuildOptions(dla_core=0, precision="fp16"), None, None)
        assert found.placements is not None
        assert [entry.name for entry in found.placements if entry.reason] == ["norm"]
        assert found.to_dict()["dla"][1]["reason"]

    def test_elsewhere_on_the_dla_by_the_rules(self, model: Model) -> None:
        options = BuildOptions(dla_core=1, precision="fp16", keep_fp32=())
        found = dry_run(model(batch=1), options, None, load_target("xavier-nx"))
        assert found.placements is not None
        assert all(not entry.reason for entry in found.placements)
        kept = dry_run(model(batch=1), BuildOptions(dla_core=1, precision="fp16"), None, load_target("xavier-nx"))
        assert [entry.name for entry in kept.placements or () if entry.reason] == ["norm"]

    def test_elsewhere_without_tensorrt_rtx_is_not_parsed(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        found = dry_run(model("qdq"), BuildOptions(), None, load_target("orin-nano"))
        assert (found.parser, found.layers) == ("", 0)
        assert [site.version for site in found.sites()] == [(8, 5), (8, 6), (10, 3), (10, 16)]
