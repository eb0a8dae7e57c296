"""Engines in a fake TensorRT on a fake GPU: right answers, everything freed, and clear words where it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeGpu, install
from fake_tensorrt import tensorrt_module

from googlenet_deploy.device.images.pipeline import Batch
from googlenet_deploy.device.runner.overlap import AsyncRunner, run_overlapped
from googlenet_deploy.device.runner.protocol import ScopedTimes, TimedRun, run_any_batch, run_timed
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.runner.tensorrt_runner import TensorRTRunner
from googlenet_deploy.errors import BadModelError, DeviceError, UsageError

MakeEngine = Callable[..., Path]


def images(count: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3, 4, 4)).astype(dtype)


def expected(batch: Any, classes: int = 6) -> Any:
    return batch.reshape(len(batch), -1)[:, :classes] * 2


@pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "10.3.0", "11.4.1"])
@pytest.mark.parametrize("integrated", [False, True])
def test_answers_are_the_networks_in_every_version_and_with_both_libraries(
    gpu: FakeGpu,
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    cuda: str,
    version: str,
    integrated: bool,
) -> None:
    install(monkeypatch, gpu, cuda)
    gpu.integrated = integrated
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, version))
    with TensorRTRunner(make_engine(tensorrt_version=version)) as runner:
        for count in (4, 1, 3):
            batch = images(count, count)
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        assert runner.batch_range == (1, 4)
        assert runner.input.shape == (None, 3, 4, 4)
        assert runner.backend == f"TensorRT {version} (Fake GPU, {cuda})"
        assert runner.metadata.architecture == "bvlc"
    assert gpu.live == set()
    assert gpu.used == 0
    assert bool(gpu.copies) != integrated  # an integrated GPU reads the host's memory


def test_larger_and_smaller_batches_than_the_engine_takes_are_split_and_filled(
    gpu: FakeGpu, make_engine: MakeEngine
) -> None:
    with TensorRTRunner(make_engine(engine={"profile": [2, 2, 4]})) as runner:
        batch = images(9)
        np.testing.assert_array_equal(run_any_batch(runner, batch)["logits"], expected(batch))
        with pytest.raises(DeviceError, match=r"does not accept input of shape \(9, 3, 4, 4\)") as caught:
            runner.run(batch)
        assert "build --batch" in str(caught.value.remedy)
        # After a refused shape the next good one is set anew.
        np.testing.assert_array_equal(runner.run(batch[:2])["logits"], expected(batch[:2]))
    assert gpu.live == set()


def test_half_precision_inputs_and_outputs(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(engine={"dtype": "HALF"})) as runner:
        assert runner.input.dtype == "float16"
        batch = images(2, dtype=np.float16)
        answer = runner.run(batch)["logits"]
        assert answer.dtype == np.float16
        np.testing.assert_array_equal(answer, expected(batch))


def test_engines_for_later_versions_may_run_the_code_that_they_carry(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    code = {"host_code": True}
    with TensorRTRunner(make_engine(engine=code, options={"version_compatible": True})) as runner:
        assert runner.run(images(2))["logits"].shape == (2, 6)
    with pytest.raises(BadModelError, match="has not been allowed"):
        TensorRTRunner(make_engine(engine=code))


def test_outputs_are_not_overwritten_by_the_next_batch(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), slots=1) as runner:
        first, second = images(2, 1), images(2, 2)
        answer = runner.run(first)["logits"]
        runner.run(second)
        np.testing.assert_array_equal(answer, expected(first))


def test_scopes_are_timed_by_events(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine()) as runner:
        assert isinstance(runner, TimedRun)
        answer, times = run_timed(runner, images(2))
        assert times == ScopedTimes(*(pytest.approx(value) for value in (0.001, 0.005, 0.001)))
        np.testing.assert_array_equal(answer["logits"], expected(images(2)))


def test_zero_copy_has_no_copies_to_time(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), zero_copy=True) as runner:
        _, times = run_timed(runner, images(2))
        assert times == ScopedTimes(None, pytest.approx(0.005), None)


@pytest.mark.parametrize("toolkit", [11, 12])
def test_a_graph_is_captured_from_the_second_batch_of_a_shape_on(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, toolkit: int
) -> None:
    install(monkeypatch, gpu, cuda=toolkit)
    with TensorRTRunner(make_engine(), slots=1, cuda_graph=True) as runner:
        for number in range(4):
            batch = images(2, number)
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        assert gpu.launches == 3
        last = images(1, 9)  # a last batch that is smaller is not worth a graph
        np.testing.assert_array_equal(runner.run(last)["logits"], expected(last))
        assert gpu.launches == 3
        for number in range(3):  # a larger one moves the buffers, so the graphs of before are dropped
            batch = images(4, number)
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        for number in range(3):
            batch = images(2, number)
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        assert runner.notes == []
    assert gpu.live == set()


@pytest.mark.parametrize("reason", ["network", "capture"])
def test_what_cannot_be_captured_runs_plainly_and_says_so(gpu: FakeGpu, make_engine: MakeEngine, reason: str) -> None:
    engine = {"uncapturable": True} if reason == "network" else {}
    with TensorRTRunner(make_engine(engine=engine), slots=1, cuda_graph=True) as runner:
        runner.run(images(2, 1))
        gpu.broken = reason if reason == "capture" else ""
        for number in range(3):
            batch = images(2, number)
            np.testing.assert_array_equal(runner.run(batch)["logits"], expected(batch))
        assert gpu.launches == 0
        assert len(runner.notes) == 1
        assert "CUDA graphs are off" in runner.notes[0]
    assert gpu.live == set()


def test_pycuda_has_no_graphs_and_that_is_said(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gpu, "pycuda")
    with TensorRTRunner(make_engine(), cuda_graph=True) as runner:
        runner.run(images(2))
        assert runner.notes == ["CUDA graphs are off: pycuda has none (cuda-bindings has)"]


def test_batches_overlap_in_slots_and_come_back_in_order(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), slots=2) as runner:
        assert isinstance(runner, AsyncRunner)
        under_way: list[int] = []
        batches = [Batch(images(count, number), [str(number)]) for number, count in enumerate((4, 4, 6, 4, 3))]

        def feed() -> Any:
            for batch in batches:
                under_way.append(len(runner._running))
                yield batch

        answers = list(run_overlapped(runner, feed()))
        assert [batch.names for batch, _ in answers] == [batch.names for batch in batches]
        for batch, outputs in answers:
            np.testing.assert_array_equal(outputs["logits"], expected(batch.array))
        assert max(under_way) == 2


@pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "8.6.2"])
def test_slots_take_turns_on_one_context_where_a_second_one_has_no_profile(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, version: str, cuda: str
) -> None:
    """A second context of an engine with open dimensions fails before TensorRT 10."""
    install(monkeypatch, gpu, cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, version))
    engine = make_engine(tensorrt_version=version)
    batches = [Batch(images(count, number), [str(number)]) for number, count in enumerate((4, 2, 4, 4, 1, 3))]
    with TensorRTRunner(engine, slots=2) as runner:
        assert runner.slots == 2
        assert "those under way share a context" in runner.notes[0]
        assert sum(kind == "context of an engine" for kind, _ in gpu.live) == 1
        for batch, outputs in run_overlapped(runner, batches):
            np.testing.assert_array_equal(outputs["logits"], expected(batch.array))
        first, second = runner.submit(images(2, 7)), runner.submit(images(3, 8))
        answers = [runner.collect(ticket)["logits"] for ticket in (first, second)]
        np.testing.assert_array_equal(answers[0], expected(images(2, 7)))
        np.testing.assert_array_equal(answers[1], expected(images(3, 8)))
    assert gpu.live == set()


def test_a_graph_has_the_only_context_for_itself(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, "8.5.2"))
    with TensorRTRunner(make_engine(tensorrt_version="8.5.2"), slots=2, cuda_graph=True) as runner:
        assert runner.slots == 1
        assert runner.notes == ["TensorRT 8.5.2 runs one batch of an engine with open dimensions at a time"]
        batches = [Batch(images(2, number), [str(number)]) for number in range(4)]
        for batch, outputs in run_overlapped(runner, batches):
            np.testing.assert_array_equal(outputs["logits"], expected(batch.array))
        assert gpu.launches == 3


def test_a_fixed_shape_needs_no_profile_so_contexts_are_as_many_as_slots(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, "8.5.2"))
    engine = make_engine(engine={"input": [2, 3, 4, 4]}, tensorrt_version="8.5.2", batch=(2, 2, 2))
    with TensorRTRunner(engine, slots=2) as runner:
        assert sum(kind == "context of an engine" for kind, _ in gpu.live) == 2
        np.testing.assert_array_equal(runner.run(images(2))["logits"], expected(images(2)))


def test_collecting_a_batch_does_not_wait_for_the_next_one(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, "8.5.2"))
    with TensorRTRunner(make_engine(tensorrt_version="8.5.2"), slots=2) as runner:
        first, second = runner.submit(images(2)), runner.submit(images(2))
        runner.collect(first)
        done = gpu.now
        runner.collect(second)
        assert gpu.now >= done + 0.005


def test_answers_are_not_held_back_while_the_next_batch_is_awaited(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), slots=2) as runner:
        answered: list[str] = []

        def feed() -> Any:
            yield Batch(images(1), ["a"])
            yield None
            assert answered == ["a"]
            yield Batch(images(1), ["b"])

        for batch, _ in run_overlapped(runner, feed()):
            answered += batch.names
        assert answered == ["a", "b"]


def test_more_batches_than_slots_are_refused(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), slots=1) as runner:
        ticket = runner.submit(images(1))
        with pytest.raises(UsageError, match="collect one first"):
            runner.submit(images(1))
        runner.collect(ticket)
    with pytest.raises(UsageError, match="at least one slot"):
        TensorRTRunner(make_engine(), slots=0)
    assert gpu.live == set()


def test_everything_is_freed_when_a_batch_fails_on_the_way(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with (
        pytest.raises(DeviceError, match="refused the batch"),
        TensorRTRunner(make_engine(engine={"refuses": True})) as runner,
    ):
        runner.run(images(2))
    assert gpu.live == set()
    assert gpu.used == 0


@pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("limit", [100, 250, 500, 800])
def test_too_little_memory_is_said_and_leaks_nothing(
    gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, limit: int, cuda: str
) -> None:
    """A batch of two takes 384 bytes of each kind for the input and 48 for the output."""
    install(monkeypatch, gpu, cuda)
    gpu.limit = limit
    with TensorRTRunner(make_engine(), slots=1) as runner:
        with pytest.raises(DeviceError, match="out of memory") as caught:
            runner.run(images(2))
        assert "smaller batch" in str(caught.value.remedy)
        gpu.limit = 2**20  # somebody else has gone
        np.testing.assert_array_equal(runner.run(images(2))["logits"], expected(images(2)))
    assert gpu.live == set()
    assert gpu.used == 0


def test_no_memory_for_a_second_context_is_said_and_leaks_nothing(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with pytest.raises(DeviceError, match=r"needs 3\.0 MiB of device memory: .*out of memory") as caught:
        TensorRTRunner(make_engine(engine={"contexts": 1}), slots=2)
    assert "fewer streams" in str(caught.value.remedy)
    assert gpu.live == set()


def test_a_fault_of_the_gpu_is_an_error_not_an_answer(gpu: FakeGpu, make_engine: MakeEngine) -> None:
    with TensorRTRunner(make_engine(), slots=1) as runner:
        runner.run(images(1))
        gpu.broken = "cudaErrorIllegalAddress"
        with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
            runner.run(images(1))
        gpu.broken = ""


class TestEnginesThatDoNotRunHere:
    def test_another_version(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(BadModelError, match=r"built by tensorrt 8\.6\.1, here is 10\.3\.0") as caught:
            TensorRTRunner(make_engine(tensorrt_version="8.6.1"))
        assert "googlenet-deploy build model.onnx" in str(caught.value.remedy)
        assert gpu.live == set()

    def test_another_gpu(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(BadModelError, match=r"for compute capability 7\.2, here is 8\.7"):
            TensorRTRunner(make_engine(compute_capabilities=("7.2",)))

    def test_cut_short(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        path = make_engine()
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(BadModelError, match="cut short"):
            TensorRTRunner(path)

    def test_altered(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        path = make_engine()
        path.write_bytes(path.read_bytes().replace(b"6", b"7"))
        with pytest.raises(BadModelError, match="hash differs"):
            TensorRTRunner(path)

    def test_altered_manifest(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        path = make_engine()
        beside = path.with_name("model.engine.json")
        beside.write_text(beside.read_text().replace('"engine_sha256": "', '"engine_sha256": "0'))
        with pytest.raises(BadModelError, match="hash differs"):
            TensorRTRunner(path)
        beside.write_text(beside.read_text()[:100])
        with pytest.raises(BadModelError, match="manifest is damaged"):
            TensorRTRunner(path)

    def test_no_manifest(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        path = make_engine()
        path.with_name("model.engine.json").unlink()
        with pytest.raises(BadModelError, match="manifest cannot be read"):
            TensorRTRunner(path)
        with TensorRTRunner(path, checked=False) as runner:
            assert runner.metadata.preprocessing is None
            assert "no manifest" in runner.notes[0]
            np.testing.assert_array_equal(runner.run(images(1))["logits"], expected(images(1)))

    def test_rubbish_that_has_a_manifest(self, gpu: FakeGpu, tmp_path: Path) -> None:
        path = tmp_path / "rubbish.engine"
        path.write_bytes(b"rubbish")
        with pytest.raises(BadModelError, match="magic tag does not match"):
            TensorRTRunner(path, checked=False)
        assert gpu.live == set()

    def test_larger_than_the_memory(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(DeviceError, match="not enough memory for it"):
            TensorRTRunner(make_engine(engine={"too_large": True}))

    def test_without_its_weights(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(BadModelError, match="without its weights"):
            TensorRTRunner(make_engine(options={"strip_plan": True}))

    def test_a_type_that_numpy_does_not_have(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(BadModelError, match="which NumPy does not have"):
            TensorRTRunner(make_engine(engine={"dtype": "BF16"}))

    def test_no_images(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        with pytest.raises(BadModelError, match="does not accept images"):
            TensorRTRunner(make_engine(engine={"input": [1, 4]}))
        assert gpu.live == set()

    def test_an_implicit_batch(self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, "8.2.1"))
        with pytest.raises(BadModelError, match="implicit batch"):
            TensorRTRunner(make_engine(engine={"implicit": True}, tensorrt_version="8.2.1"))


class TestMachinesWithoutWhatIsNeeded:
    def test_no_tensorrt(self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(DeviceError, match="TensorRT cannot be loaded") as caught:
            open_runner(make_engine())
        assert "JetPack" in str(caught.value.remedy)

    def test_a_tensorrt_that_is_too_old(
        self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(gpu, "7.1.3"))
        with pytest.raises(DeviceError, match=r"TensorRT 7\.1\.3 is installed; 8\.2 or later is needed"):
            open_runner(make_engine())

    def test_no_cuda_library(self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, gpu, "none")
        with pytest.raises(DeviceError, match=r"no Python access to CUDA \(cuda-bindings: .*pycuda: ") as caught:
            open_runner(make_engine())
        assert "googlenet-deploy[cuda]" in str(caught.value.remedy)

    def test_an_engine_of_another_version_is_told_before_missing_cuda(
        self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, gpu, "none")
        with pytest.raises(BadModelError, match="it was built by tensorrt 8") as caught:
            TensorRTRunner(make_engine(tensorrt_version="8.5.2"))
        assert "rebuild it here" in str(caught.value.remedy)

    @pytest.mark.parametrize(("cuda", "count"), [("cuda-bindings", 0), ("cuda-bindings", -1), ("pycuda", 0)])
    def test_no_gpu(
        self, gpu: FakeGpu, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, cuda: str, count: int
    ) -> None:
        install(monkeypatch, gpu, cuda)
        gpu.count = count
        with pytest.raises(DeviceError) as caught:
            open_runner(make_engine())
        assert "driver" in str(caught.value.remedy)

    def test_a_runtime_that_does_not_start(self, gpu: FakeGpu, make_engine: MakeEngine) -> None:
        gpu.no_runtime = True  # type: ignore[attr-defined]
        with pytest.raises(DeviceError, match="cannot start: CUDA initialization failure"):
            open_runner(make_engine())
        assert gpu.live == set()
