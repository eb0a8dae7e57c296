"""Whole searches of fake engines, on a clock that moves only by what is run, and on a Jetson in a folder."""

from __future__ import annotations

import io
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_clock import FakeClock
from PIL import Image

from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.device.tune.table import nearest_text, tuned_lines
from googlenet_deploy.device.tune.tuned_file import TuneSetting
from googlenet_deploy.errors import DeviceError, UsageError

from .conftest import JetsonFolder, MakeTuner, WattMeter

SPEED = {"fp32": 40.0, "fp16": 20.0, "int8": 15.0}  # milliseconds per image
ONE = {"stream_counts": (1,), "cuda_graph": False}
LATENCY = TuneOptions(batch_sizes=(1, 2), seconds=0.5, **ONE)  # type: ignore[arg-type]


def pictures(count: int) -> list[ImageSource]:
    generator, found = np.random.default_rng(0), []
    for index in range(count):
        data = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (12, 12, 3), np.uint8)).save(data, "PNG")
        found.append(ImageSource(f"picture {index}", data.getvalue()))
    return found


def test_the_fastest_engine_is_chosen_and_everything_is_recorded(make_tuner: MakeTuner) -> None:
    tuned = make_tuner(SPEED, LATENCY).run()
    assert tuned.choice is not None
    assert (tuned.choice.setting.model, tuned.choice.setting.batch) == ("int8.engine", 1)
    assert tuned.choice.setting.backend == "tensorrt"
    # A tenth of an image's time per batch: 15 * 1.1 ms.
    assert tuned.choice.latency_ms.value == pytest.approx(16.5)
    assert tuned.choice.images_per_second.value == pytest.approx(1 / 0.0165)
    assert tuned.objective == "latency"
    assert tuned.no_energy == "no meter is here"
    assert "the energy is not an objective without a power meter" in " ".join(tuned.notes)
    assert {model.precision for model in tuned.models} == set(SPEED)
    assert tuned.model(tuned.choice).source_sha256 == "5" * 64
    assert len(tuned.results) == 6
    text = "\n".join(tuned_lines(tuned))
    assert "chosen: int8.engine, tensorrt, batch 1" in text
    assert "power: not measured: no meter is here" in text


def test_more_images_per_second_from_larger_batches(make_tuner: MakeTuner) -> None:
    options = TuneOptions(objective="rate", batch_sizes=(1, 2, 4, 8, 16), max_latency=70.0, **ONE)  # type: ignore[arg-type]
    tuned = make_tuner(SPEED, options).run()
    assert tuned.choice is not None
    # Batch 4 of INT8 takes 15 * 4.1 = 61.5 ms, batch 8 121.5 ms; the engines take up to 8.
    assert (tuned.choice.setting.model, tuned.choice.setting.batch) == ("int8.engine", 4)
    assert ("int8.engine, batch 16", "it accepts batches of 1 to 8") in [(i.what, i.reason) for i in tuned.left_out]


def test_energy_is_the_objective_where_a_meter_is(make_tuner: MakeTuner) -> None:
    tuned = make_tuner(SPEED, LATENCY, watts=lambda: 8.0).run()
    assert tuned.objective == "energy"
    assert tuned.choice is not None
    assert tuned.choice.millijoules_per_image is not None
    # 8 W for 15 * 2.1 / 2 ms per image.
    assert tuned.choice.millijoules_per_image.value == pytest.approx(8 * 15 * 1.05)
    assert tuned.meter == "made up, module"


def test_energy_without_a_meter_is_refused_with_the_reason(make_tuner: MakeTuner) -> None:
    with pytest.raises(DeviceError, match=r"there is no power meter: no meter is here\. buy one") as error:
        make_tuner(SPEED, TuneOptions(objective="energy")).run()
    assert "--objective latency" in str(error.value.remedy)


def test_a_meter_that_dies_is_named(make_tuner: MakeTuner, clock: FakeClock) -> None:
    meter = WattMeter(clock, lambda: 8.0)
    meter.dead = True
    with pytest.raises(
        DeviceError, match="not one of 6 settings could be measured: its energy was not measured: the meter"
    ):
        make_tuner(SPEED, LATENCY, sampler=meter).run()


def test_agreement_decides_before_speed(make_tuner: MakeTuner) -> None:
    options = TuneOptions(batch_sizes=(1,), min_agreement=85.0, **ONE)  # type: ignore[arg-type]
    tuned = make_tuner(SPEED, options, sources=pictures(20), wrong={"int8": 2, "fp16": 1}).run()
    assert tuned.choice is not None
    assert tuned.choice.setting.model == "fp16.engine"
    assert tuned.choice.agreement == pytest.approx(90.0, abs=5.1)
    assert tuned.images == 20
    (left,) = tuned.left_out
    assert left.what == "int8.engine in tensorrt"
    assert "--min-agreement is 85" in left.reason


def test_an_agreement_that_nothing_holds_names_the_nearest(make_tuner: MakeTuner) -> None:
    options = TuneOptions(batch_sizes=(1,), min_agreement=100.0, max_latency=30.0, **ONE)  # type: ignore[arg-type]
    tuned = make_tuner({"fp32": 40.0, "int8": 15.0}, options, sources=pictures(10), wrong={"int8": 3}).run()
    assert tuned.choice is None
    assert tuned.nearest == 0
    # FP32 agrees with itself, but takes 44 ms.
    assert "latency at most 30 ms, agreement at least 100 %; the nearest is fp32.engine" in nearest_text(tuned)
    assert "44.00 ms for 95 % of the batches" in nearest_text(tuned)


def test_agreement_needs_images_and_an_fp32_model(make_tuner: MakeTuner) -> None:
    options = TuneOptions(min_agreement=99.0)
    with pytest.raises(UsageError, match="--min-agreement needs images"):
        make_tuner(SPEED, options).run()
    with pytest.raises(DeviceError, match="no FP32 model runs here to compare with"):
        make_tuner({"int8": 10.0}, options, sources=pictures(2)).run()


def test_nothing_that_runs_is_an_error_that_names_the_reasons(make_tuner: MakeTuner, make_engine: object) -> None:
    tuner = make_tuner(SPEED, LATENCY)

    def refuse(*_: object) -> object:
        raise DeviceError("there is no GPU")

    object.__setattr__(tuner._request, "open_file", refuse)
    with pytest.raises(
        DeviceError, match=r"not one of the models runs here: .*fp32.engine in tensorrt: there is no GPU"
    ):
        tuner.run()


def test_power_modes_are_tried_and_the_present_one_is_put_back(make_tuner: MakeTuner, jetson: JetsonFolder) -> None:
    """7W is slow but thrifty, MAXN fast and wasteful, 10W needs a reboot."""
    (jetson.folder / "reboot").write_text("3\n")
    slower = {0: 1.0, 1: 1.6, 2: 0.8}
    options = TuneOptions(batch_sizes=(1, 2), power_modes=True, **ONE)  # type: ignore[arg-type]
    tuner = make_tuner(
        {"fp16": 20.0, "int8": 15.0},
        options,
        root=jetson.root,
        is_root=True,
        watts=lambda: {0: 10.0, 1: 5.0, 2: 16.0}[jetson.mode],
        factor=lambda _setting: slower[jetson.mode],
    )
    tuned = tuner.run()
    assert tuned.choice is not None
    assert (tuned.choice.setting.power_mode, tuned.choice.setting.model) == ("7W", "int8.engine")
    assert tuned.choice.millijoules_per_image is not None
    assert tuned.choice.millijoules_per_image.value == pytest.approx(5 * 1.6 * 15 * 1.05)
    assert [(item.what, item.reason) for item in tuned.left_out] == [("power mode 10W", "needs a reboot")]
    assert tuned.machine["power_mode"] in ("15W", "some")
    assert jetson.mode == 0
    assert {result.setting.power_mode for result in tuned.results} == {"15W", "7W", "MAXN"}


def test_a_rate_that_only_the_fast_mode_reaches(make_tuner: MakeTuner, jetson: JetsonFolder) -> None:
    slower = {0: 1.0, 1: 1.6, 2: 0.8, 3: 1.3}
    options = TuneOptions(batch_sizes=(1,), min_rate=70.0, power_modes=True, **ONE)  # type: ignore[arg-type]
    tuned = make_tuner(
        {"int8": 15.0},
        options,
        root=jetson.root,
        is_root=True,
        watts=lambda: {0: 10.0, 1: 5.0, 2: 16.0, 3: 7.0}[jetson.mode],
        factor=lambda _setting: slower[jetson.mode],
    ).run()
    assert tuned.choice is not None
    # 1 / (1.1 * 15 * 0.8 ms) = 75.8 images/s; 60.6 in 15W.
    assert tuned.choice.setting.power_mode == "MAXN"
    assert tuned.reason == "the only one of the last stage that meets the limits"
    assert jetson.mode == 0


@pytest.mark.parametrize("how", ["signal", "error"])
def test_interrupted_in_another_mode(make_tuner: MakeTuner, jetson: JetsonFolder, how: str) -> None:
    stop = threading.Event()

    def interrupt(_setting: TuneSetting) -> None:
        if jetson.mode == 2:
            if how == "error":
                raise RuntimeError("a fault of the program")
            stop.set()

    options = TuneOptions(batch_sizes=(1, 2), power_modes=True, **ONE)  # type: ignore[arg-type]
    tuner = make_tuner(
        SPEED, options, root=jetson.root, is_root=True, before_run=interrupt, stop=stop, watts=lambda: 5.0
    )
    with pytest.raises(RuntimeError if how == "error" else KeyboardInterrupt):
        tuner.run()
    assert jetson.mode == 0
    assert tuner.tuned is None


def test_a_mode_that_cannot_be_left_does_not_take_the_result_with_it(
    make_tuner: MakeTuner, jetson: JetsonFolder
) -> None:
    (jetson.folder / "stuck").write_text("1\n")
    options = TuneOptions(batch_sizes=(1,), power_modes=True, **ONE)  # type: ignore[arg-type]
    tuner = make_tuner(SPEED, options, root=jetson.root, is_root=True, watts=lambda: 5.0)
    with pytest.raises(DeviceError, match="15W could not be put back"):
        tuner.run()
    assert tuner.tuned is not None
    assert {result.setting.power_mode for result in tuner.tuned.results} == {"7W"}
    assert "nvpmodel does not set it" in " ".join(item.reason for item in tuner.tuned.left_out)


class Throttle:
    """Over-current events of the board, in a counter below the root."""

    def __init__(self, root: Path) -> None:
        folder = root / "sys/class/hwmon/hwmon5"
        folder.mkdir(parents=True)
        (folder / "name").write_text("soctherm_oc\n")
        self.path, self.count = folder / "oc2_event_cnt", 0
        self.path.write_text("0\n")

    def event(self) -> None:
        self.count += 1
        self.path.write_text(f"{self.count}\n")


def test_a_round_that_throttles_is_repeated_after_a_pause(
    make_tuner: MakeTuner, tmp_path: Path, clock: FakeClock
) -> None:
    root = tmp_path / "root"
    throttle, start, runs = Throttle(root), clock.now, itertools.count()
    hot_until = 0.0

    def factor(setting: TuneSetting) -> float:
        nonlocal hot_until
        if setting.model == "int8.engine" and next(runs) == 20:  # in its first round: hot for two seconds
            hot_until = clock.now + 2
        if clock.now < hot_until:
            throttle.event()
            return 5.0
        return 1.0

    tuned = make_tuner(SPEED, LATENCY, root=root, factor=factor).run()
    assert throttle.count > 0
    assert tuned.choice is not None
    assert tuned.choice.setting.model == "int8.engine"
    assert tuned.choice.latency_ms.value == pytest.approx(16.5)
    repeated = [note for note in tuned.notes if note.startswith("the machine throttled: ")]
    assert repeated
    assert repeated[0].endswith("repeated after a pause of 15 s each")
    assert clock.now - start > 15


def test_a_setting_that_always_throttles_is_marked(make_tuner: MakeTuner, tmp_path: Path) -> None:
    root = tmp_path / "root"
    throttle, runs = Throttle(root), itertools.count()

    def factor(setting: TuneSetting) -> float:
        if setting.model == "int8.engine" and next(runs) % 10 == 0:
            throttle.event()
        return 1.0

    tuned = make_tuner(SPEED, LATENCY, root=root, factor=factor).run()
    assert tuned.choice is not None
    marked = [note for note in tuned.notes if "throttled while it was measured" in note]
    assert marked
    assert all(note.startswith("int8.engine") and "average over-current (oc2)" in note for note in marked)


def test_the_busy_machine_is_noted(make_tuner: MakeTuner, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/loadavg").write_text("99.00 90.00 80.00 1/100 1\n")
    tuned = make_tuner({"fp16": 20.0}, LATENCY, root=root).run()
    assert "99.0 runnable processes" in " ".join(tuned.notes)


def test_batches_that_do_not_fit_in_memory_are_left_out(make_tuner: MakeTuner, tmp_path: Path) -> None:
    """A batch of 8 takes 5 * 8 * 3 * 8 * 8 * 4 bytes, which is 30 kB; 20 kB are free."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemAvailable:   20 kB\n")
    options = TuneOptions(objective="rate", batch_sizes=(1, 8), **ONE)  # type: ignore[arg-type]
    tuned = make_tuner({"fp16": 20.0}, options, root=root).run()
    assert [each.setting.batch for each in tuned.results] == [1]
    assert [item.what for item in tuned.left_out] == ["fp16.engine, tensorrt, batch 8"]
    with pytest.raises(UsageError, match=r"no setting is left to try: fp16\.engine, tensorrt, batch 8: batches of 8"):
        make_tuner({"fp16": 20.0}, replace(options, batch_sizes=(8,)), root=root).run()
