"""A whole benchmark on a clock that moves only by what is run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fake_clock import FakeClock

from googlenet_deploy.device.benchmark import run as module
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.benchmark.run import Benchmark
from googlenet_deploy.device.benchmark.table import result_lines
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.power import energy as energy_module
from googlenet_deploy.device.power.energy import Energy
from googlenet_deploy.device.power.meter import Limits, NotMeasured, Rail
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, GoogLeNetDeployError, UsageError

from .conftest import SMALL, TimedModel

QUICK = BenchmarkOptions(rounds=3, seconds=0.5, warm_up_seconds=5.0, threads=1)
Make = Callable[..., Benchmark]


@pytest.fixture
def make(tmp_path: Path, clock: FakeClock) -> Make:
    """A benchmark of a model that takes 10 ms per image, in a file system that tells nothing."""
    path = tmp_path / "model.engine"
    path.write_bytes(b"model")
    opened: list[int] = []

    def build(
        options: BenchmarkOptions = QUICK,
        seconds: Callable[[int], float] = lambda _: 0.01,
        sources: list[ImageSource] | None = None,
        **attributes: Any,
    ) -> Benchmark:
        def open_runner(slots: int, threads: int | None, batch: int) -> Any:
            opened.append(batch)
            model = TimedModel(clock, seconds)
            model.path = str(path)  # type: ignore[misc]
            for name, value in attributes.items():
                setattr(model, name, value)
            return model

        benchmark = Benchmark(
            open_runner,
            lambda _: SMALL,
            options,
            sources,
            quiet=True,
            root=tmp_path,
            clock=clock,
            sleep=clock.advance,
        )
        benchmark.opened = opened  # type: ignore[attr-defined]
        return benchmark

    return build


class SteadySampler:
    """10 W while busy and 4 W while idle, on one rail of two."""

    def __init__(self, clock: FakeClock, lengthened: float = 0.05, broken: bool = False) -> None:
        self.clock, self.broken, self.asked = clock, broken, 0
        self.meter = self
        self.name, self.covers, self.source = "steady", "module", "made up"
        self.rails = (Rail("VDD_IN", True, Limits(0.01, 0.0, 0.0)), Rail("VDD_GPU", False, Limits(0.01, 0.0, 0.0)))
        self.period, self.lag = lengthened, 0.0

    def __enter__(self) -> SteadySampler:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self) -> float:
        return self.clock()

    def energy(self, start: float, end: float) -> Energy | NotMeasured:
        self.asked += 1
        if self.broken and self.asked > 3:
            return NotMeasured("the meter died")
        watts = 4.0 if self.asked == 1 else 10.0
        joules, seconds = watts * (end - start), end - start
        rails = {"VDD_IN": joules, "VDD_GPU": joules / 2}
        return Energy(joules, seconds, 0.01, 0.02, 0.03, 0.01, 50, 50 / seconds, 1, rails, ("a note",))


def test_a_cpu_without_a_meter(make: Make, schema: Path) -> None:
    result = make().run()
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(json.loads(json.dumps(result)))
    (part,) = result["configurations"]
    assert (part["batch"], part["streams"], part["rounds"], part["threads"]) == (1, 1, 3, 1)
    assert part["warm_up"]["settled"]
    scopes = part["milliseconds"]
    assert scopes["compute"]["p50"]["value"] == pytest.approx(10.0)
    assert scopes["run"]["p99"]["value"] == pytest.approx(10.0)
    assert scopes["run"]["runs"] == pytest.approx(150, abs=3)
    assert scopes["copy_in"] == {"not_measured": "a CPU copies nothing"}
    assert part["images_per_second"]["value"] == pytest.approx(100.0)
    assert part["images_per_second"]["interval_95"] == pytest.approx([100.0, 100.0])
    assert "RAPL" in part["energy"]["run"]["not_measured"]
    assert "RAPL" in result["idle"]["not_measured"]
    assert result["images"]["kind"] == "synthetic"
    assert result["memory"]["device"] == {"not_measured": "the model runs on the CPU"}
    assert result["trtexec"] == {"not_measured": "trtexec runs TensorRT engines only"}
    assert result["state"]["throttling"] == []
    assert "  power: not measured: " in "\n".join(result_lines(result))


def test_energy_per_image(make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, schema: Path) -> None:
    monkeypatch.setattr(module, "open_sampler", lambda *_: SteadySampler(clock))
    result = make(BenchmarkOptions(batches=(2,), rounds=3, seconds=0.5)).run()
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(json.loads(json.dumps(result)))
    energy = result["configurations"][0]["energy"]["run"]
    # 10 W for 10 ms per batch of two.
    assert energy["millijoules_per_image"]["value"] == pytest.approx(50.0)
    assert energy["millijoules_per_image"]["interval_95"] == pytest.approx([50.0, 50.0])
    assert energy["above_idle"]["value"] == pytest.approx(30.0)
    assert energy["above_idle"]["idle_watts"] == pytest.approx(4.0)
    assert energy["watts"] == pytest.approx(10.0)
    assert energy["images_per_second_per_watt"] == pytest.approx(20.0)
    assert energy["total"] == "VDD_IN"
    assert energy["rails"][1] == {"name": "VDD_GPU", "in_total": False, "millijoules_per_image": pytest.approx(25.0)}
    images = 2 * result["configurations"][0]["milliseconds"]["run"]["runs"]
    three = {"sampling": 0.01 * 3**0.5, "quantisation": 0.06, "accuracy": 0.09}
    expected = {name: pytest.approx(1000 * value / images) for name, value in three.items()}
    assert energy["standard_uncertainties_millijoules_per_image"] == expected
    together = 2 * sum(value**2 for value in three.values()) ** 0.5
    assert energy["uncertainty_millijoules_per_image"] == pytest.approx(1000 * together / images)
    assert result["idle"]["watts"] == pytest.approx(4.0)
    assert energy["notes"] == ["a note"]


def test_a_round_too_short_for_the_meter_is_lengthened_and_told(
    make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_sampler", lambda *_: SteadySampler(clock, lengthened=0.1))
    result = make().run()
    assert result["configurations"][0]["milliseconds"]["run"]["runs"] == pytest.approx(600, abs=3)
    assert result["notes"] == [
        "rounds last 2 s instead of 0.5 s: steady returns a reading every 0.1 s, and may lag by 0 s"
    ]
    assert result["idle"]["seconds"] == pytest.approx(3.0)


def test_energy_of_several_streams(make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_sampler", lambda *_: SteadySampler(clock))
    options = BenchmarkOptions(streams=(2,), rounds=1, seconds=0.0, warm_up_seconds=0.0, threads=1)
    energy = make(options).run()["configurations"][0]["energy"]
    assert energy["run"]["watts"] == pytest.approx(10.0)
    assert energy["end_to_end"] == {"not_measured": "measured with one stream only"}


def test_a_gpu_backend_that_does_not_tell_copies_apart(make: Make) -> None:
    options = BenchmarkOptions(rounds=1, seconds=0.0, warm_up_seconds=0.0, power="none")
    scopes = make(options, device="GPU").run()["configurations"][0]["milliseconds"]
    assert scopes["copy_out"] == {"not_measured": "this backend does not separate copies; they count as compute"}


def test_a_meter_that_dies_leaves_no_number(make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_sampler", lambda *_: SteadySampler(clock, broken=True))
    energy = make().run()["configurations"][0]["energy"]
    assert energy == {"run": {"not_measured": "the meter died"}, "end_to_end": {"not_measured": "the meter died"}}


def test_an_idle_power_that_is_missing_takes_only_its_own_figure(
    make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoIdle(SteadySampler):
        def energy(self, start: float, end: float) -> Any:
            found = super().energy(start, end)
            return NotMeasured("it was asleep") if self.asked == 1 else found

    monkeypatch.setattr(module, "open_sampler", lambda *_: NoIdle(clock))
    result = make().run()
    energy = result["configurations"][0]["energy"]["run"]
    assert energy["millijoules_per_image"]["value"] == pytest.approx(100.0)
    assert energy["above_idle"] == {"value": None, "not_measured": "idle power: it was asleep"}
    assert result["idle"] == {"not_measured": "it was asleep"}


def test_batches_and_streams(make: Make) -> None:
    options = BenchmarkOptions(batches=(1, 3), streams=(1, 2), rounds=2, seconds=0.0, warm_up_seconds=0.0)
    parts = make(options).run()["configurations"]
    assert [(part["batch"], part["streams"]) for part in parts] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    several = parts[1]
    assert several["milliseconds"]["compute"] == {"not_measured": "measured with one stream only"}
    assert several["milliseconds"]["run"]["runs"] >= 20
    assert several["end_to_end_images_per_second"]["value"] is None
    assert several["threads"] >= 1
    assert parts[0]["threads"] is None


def test_on_a_cpu_single_images_and_batches_have_runners_of_their_own(make: Make) -> None:
    benchmark = make(BenchmarkOptions(batches=(1, 3, 4), rounds=1, seconds=0.0, warm_up_seconds=0.0))
    benchmark.run()
    assert benchmark.opened == [1, 3, 4]  # type: ignore[attr-defined]
    on_gpu = make(BenchmarkOptions(batches=(1, 3), rounds=1, seconds=0.0, warm_up_seconds=0.0), device="GPU")
    on_gpu.run()
    assert on_gpu.opened == [1, 3, 4, 1]  # type: ignore[attr-defined]


def test_streams_alone(make: Make) -> None:
    options = BenchmarkOptions(streams=(2,), rounds=1, seconds=0.0, warm_up_seconds=0.0, threads=1)
    (part,) = make(options).run()["configurations"]
    assert part["streams"] == 2
    assert part["images_per_second"]["interval_95"] is None


def test_a_model_of_a_fixed_batch_is_measured_with_it(make: Make) -> None:
    (part,) = make(batch_range=(4, 4)).run()["configurations"]
    assert part["batch"] == 4


@pytest.mark.parametrize(
    ("batch_range", "words"),
    [((4, 4), "accepts batches of 4, not of 1"), ((2, 8), "accepts batches of 2 to 8, not of 1")],
)
def test_batches_that_the_model_does_not_take(batch_range: Any, words: str, make: Make) -> None:
    with pytest.raises(UsageError, match=words):
        make(BenchmarkOptions(batches=(1,)), batch_range=batch_range).run()


def test_batches_that_do_not_fit_in_memory(make: Make, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 3000 kB\n")
    options = BenchmarkOptions(batches=(64,), streams=(1, 16))
    with pytest.raises(UsageError, match="batches of 64 in 16 streams need about"):
        make(options).run()


def test_images_of_another_shape_are_refused(make: Make) -> None:
    benchmark = make()
    benchmark.resolve = lambda _: Preprocessing(resize=16, crop=(16, 16))
    with pytest.raises(UsageError, match="but they were prepared as"):
        benchmark.run()


def test_zero_images(make: Make) -> None:
    with pytest.raises(GoogLeNetDeployError, match="no images found"):
        make(sources=[]).run()


def test_a_model_that_breaks_while_it_runs(make: Make) -> None:
    def breaks(run: int) -> float:
        if run == 30:
            raise BadModelError("model.onnx", "broke")
        return 0.01

    with pytest.raises(BadModelError, match="broke"):
        make(seconds=breaks).run()


def test_a_latency_that_does_not_settle_is_told(make: Make) -> None:
    result = make(seconds=lambda run: 0.01 * 1.5 ** (run // 20 % 2)).run()
    assert not result["configurations"][0]["warm_up"]["settled"]
    assert any(note.startswith("batch 1, streams 1: the latency had not settled after 5.0") for note in result["notes"])


def test_other_work_on_the_machine_is_told(make: Make, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("900.50 800.00 700.00 3/99 1234\n")
    result = make().run()
    assert any("busy with other work: 900.5 runnable processes" in note for note in result["notes"])
    assert result["state"]["before"]["load_average"] == 900.5


def test_trtexec_switched_off(make: Make) -> None:
    options = BenchmarkOptions(rounds=1, seconds=0.0, warm_up_seconds=0.0, trtexec=False)
    assert make(options).run()["trtexec"] == {"not_measured": "it was switched off (--no-trtexec)"}


def test_power_switched_off(make: Make) -> None:
    options = BenchmarkOptions(rounds=1, seconds=0.0, warm_up_seconds=0.0, power="none")
    assert make(options).run()["idle"] == {"not_measured": "it was switched off (--power none)"}


@pytest.mark.parametrize("tree", ["orin-nano", "agx-orin"])
def test_with_a_real_sampler_on_a_recorded_module(
    tree: str, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time, since the sampler is a thread; the power is constant, so no time changes the answer."""
    monkeypatch.setattr(energy_module, "MAX_GAP_SECONDS", 60.0)
    monkeypatch.setattr(energy_module, "MIN_READINGS", 4)
    folder = tmp_path
    for line in (repository / "tests" / "data" / "power" / f"{tree}.tree").read_text().splitlines():
        if line.startswith("["):
            folder = tmp_path / line.strip("[]")
            folder.mkdir(parents=True)
        elif not line.startswith("#"):
            name, _, value = line.partition(" ")
            (folder / name).write_text(value)
    path = tmp_path / "model.engine"
    path.write_bytes(b"model")

    def open_runner(slots: int, threads: int | None, batch: int) -> Any:
        model = TimedModel(FakeClock(), lambda _: time.sleep(0.01) or 0.0)
        model.path, model.device = str(path), "GPU"  # type: ignore[misc]
        return model

    options = BenchmarkOptions(rounds=1, seconds=0.1, warm_up_seconds=0.0, idle_seconds=0.0)
    result = Benchmark(open_runner, lambda _: SMALL, options, quiet=True, root=tmp_path).run()
    watts = {"orin-nano": 5.056 * 0.904, "agx-orin": (19216 * 208 + 4968 * 953) / 1e6}[tree]
    energy = result["configurations"][0]["energy"]["run"]
    assert energy["watts"] == pytest.approx(watts, rel=0.01)
    assert result["idle"]["watts"] == pytest.approx(watts, rel=0.01)
    assert energy["above_idle"]["value"] == pytest.approx(0.0, abs=0.01 * energy["millijoules_per_image"]["value"])


def test_no_sampler_gives_the_remedy_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = NotMeasured("only root may", "sudo")
    monkeypatch.setattr(module, "open_sampler", lambda *_: NoSampler(reason))
    assert make().run()["idle"] == {"not_measured": "only root may", "remedy": "sudo"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batches": (0,)}, "--batch must be from 1 to 4096, is 0"),
        ({"batches": (8, 8)}, "names a size twice"),
        ({"batches": (10**9,)}, "--batch"),
        ({"streams": ()}, "--streams names no number"),
        ({"streams": (65,)}, "--streams must be from 1 to 64, is 65"),
        ({"rounds": 0}, "--rounds"),
        ({"rounds": 101}, "--rounds"),
        ({"seconds": -1.0}, "--seconds must be from 0 to 3600, is -1"),
        ({"seconds": float("nan")}, "--seconds must be from 0 to 3600, is nan"),
        ({"seconds": float("inf")}, "--seconds must be from 0 to 3600, is inf"),
        ({"warm_up_seconds": 1e9}, "--warm-up"),
        ({"idle_seconds": -0.1}, "--idle"),
        ({"min_runs": 0}, "--min-runs"),
        ({"image_count": 0}, "--image-count"),
    ],
)
def test_absurd_options(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        BenchmarkOptions(**changes)
