"""From a model and images to a table: ranges, determinism, interruption, and every bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from PIL import Image

from googlenet_deploy.calibration import calibrate as module
from googlenet_deploy.calibration.calibrate import (
    CalibrationResult,
    CalibrationSource,
    calibrate,
    discard_state,
    open_source,
)
from googlenet_deploy.calibration.collect import Collector
from googlenet_deploy.calibration.images import ImageSelection, select_images
from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.calibration.options import CalibrationOptions
from googlenet_deploy.calibration.table import FALLBACK_AMAX
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadModelError, InputError, UsageError
from googlenet_deploy.graph.files import store_metadata
from googlenet_deploy.graph.session import TensorSession

Mini = Callable[..., onnx.ModelProto]


@pytest.fixture
def source(tiny: Mini, source_of: Callable[..., CalibrationSource]) -> CalibrationSource:
    """A model of two convolutions and a classifier."""
    return source_of(tiny())


def run(source: CalibrationSource, selection: ImageSelection, **options: Any) -> CalibrationResult:
    return calibrate(source, selection, CalibrationOptions(**{"quiet": True, **options}))


def saved(result: CalibrationResult, folder: Path) -> bytes:
    result.table.save(folder / "table.json")
    return (folder / "table.json").read_bytes()


def test_the_table_holds_every_tensors_range(mini: Mini, pictures: Callable, calibrated: Callable) -> None:
    table = calibrated(mini(), pictures(9)).table
    names = [record.members[0] for record in table.records]
    values = TensorSession(mini(), names).run(pictures(9))
    for record in table.records:
        value = values[record.members[0]]
        assert record.maximum == pytest.approx(value.max(), rel=1e-4)
        assert record.amax["max"] == pytest.approx(np.abs(value).max(), rel=1e-4)
        assert set(record.amax) == set(record.errors) == set(record.saturated) == {*METHODS, AUTO}
        assert record.saturated["max"] == 0.0
        assert all(0 < record.amax[name] <= record.amax["max"] for name in METHODS)
        assert 0 < record.amax[AUTO] <= 2 * record.amax["max"]  # with headroom where there are few values
    assert table.images.count == 9
    assert table.images.sha256 == ""


def test_batch_size_changes_no_range(tiny: Mini, calibrated: Callable) -> None:
    first, second = calibrated(tiny(), batch_size=1).table, calibrated(tiny(), batch_size=5).table
    for one, other in zip(first.records, second.records, strict=True):
        assert one.members == other.members
        assert one.amax["max"] == pytest.approx(other.amax["max"], rel=1e-5)


def test_a_fixed_batch_is_kept_to(tiny: Mini, source_of: Callable, picture_folder: Path) -> None:
    selection = select_images(picture_folder, 7)
    fixed = run(source_of(tiny(batch=4)), selection).table
    free = run(source_of(tiny()), selection).table
    assert fixed.images == free.images
    for one, other in zip(fixed.records, free.records, strict=True):
        assert one.amax["max"] == pytest.approx(other.amax["max"], rel=1e-5)


def test_the_same_run_gives_the_same_bytes(source: CalibrationSource, picture_folder: Path, tmp_path: Path) -> None:
    selection = select_images(picture_folder, 12, seed=3)
    first, second = run(source, selection), run(source, selection)
    assert saved(first, tmp_path) == saved(second, tmp_path)
    assert first.table.images.count == len(first.table.images.contents) == 12
    assert saved(run(source, select_images(picture_folder, 12, seed=4)), tmp_path) != saved(first, tmp_path)


def test_only_the_quantised_tensors_where_that_is_asked_for(source: CalibrationSource, picture_folder: Path) -> None:
    selection = select_images(picture_folder, 4)
    few, all_of_them = run(source, selection, every_tensor=False).table, run(source, selection).table
    assert len(few.records) < len(all_of_them.records)
    for record in few.records:
        other = all_of_them.record_of(record.members[0])
        assert other is not None
        assert record.amax["max"] == pytest.approx(other.amax["max"], rel=1e-5)


class Interrupted:
    """Ctrl-C, or another error, after so many batches."""

    def __init__(self, after: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error, self.real = after, error, Collector.add

    def __enter__(self) -> Interrupted:
        def add(collector: Collector, *arguments: Any) -> None:
            if self.left == 0:
                raise self.error
            self.left -= 1
            self.real(collector, *arguments)

        self.patch = mock.patch.object(Collector, "add", add)
        self.patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.stop()


@pytest.mark.parametrize("after", [0, 1, 3])
def test_interrupted_and_resumed_is_byte_for_byte_the_same(
    source: CalibrationSource, picture_folder: Path, tmp_path: Path, after: int
) -> None:
    bad = tmp_path / "images"
    bad.mkdir()
    for path in sorted(picture_folder.iterdir())[:11]:
        (bad / path.name).write_bytes(path.read_bytes())
    for name in ("000a.png", "003a.png", "010a.png"):
        (bad / name).write_bytes(b"no image")
    selection = select_images(bad, None)
    state = tmp_path / "state"
    whole = saved(run(source, selection), tmp_path)
    with Interrupted(after), pytest.raises(KeyboardInterrupt):
        run(source, selection, state=str(state))
    assert state.exists()
    resumed = run(source, selection, state=str(state))
    assert saved(resumed, tmp_path) == whole
    assert [Path(image.name).name for image in resumed.skipped] == ["000a.png", "003a.png", "010a.png"]


def test_twice_interrupted(source: CalibrationSource, picture_folder: Path, tmp_path: Path) -> None:
    selection, state = select_images(picture_folder, 11), str(tmp_path / "state")
    whole = saved(run(source, selection), tmp_path)
    for after in (2, 1):
        with Interrupted(after), pytest.raises(KeyboardInterrupt):
            run(source, selection, state=state)
    assert saved(run(source, selection, state=state), tmp_path) == whole


def test_the_state_is_saved_on_the_way_and_at_the_end(
    source: CalibrationSource, picture_folder: Path, tmp_path: Path
) -> None:
    selection, state = select_images(picture_folder, 10), tmp_path / "state"
    whole = saved(run(source, selection), tmp_path)
    with mock.patch.object(module, "BATCHES_BETWEEN_SAVES", 2), Interrupted(3, MemoryError), pytest.raises(MemoryError):
        run(source, selection, state=str(state))
    assert state.exists(), "what the last save held is kept, whatever ends the run"
    assert saved(run(source, selection, state=str(state)), tmp_path) == whole
    assert state.exists(), "until its result is written"
    with mock.patch.object(Collector, "add", side_effect=AssertionError("nothing is left to count")):
        assert saved(run(source, selection, state=str(state)), tmp_path) == whole
    options = CalibrationOptions(state=str(state))
    discard_state(options)
    discard_state(options)
    assert not state.exists()
    discard_state(CalibrationOptions())


def test_the_state_of_other_images_is_refused(source: CalibrationSource, picture_folder: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    run(source, select_images(picture_folder, 4), state=state)
    for selection, options in (
        (select_images(picture_folder, 4, seed=1), {}),
        (select_images(picture_folder, 4), {"every_tensor": False}),
    ):
        with pytest.raises(InputError, match="another model, other images or other options"):
            run(source, selection, state=state, **options)
    with pytest.raises(InputError, match="another model"):
        run(replace(source, sha256="1" * 64), select_images(picture_folder, 4), state=state)


class TestImages:
    """What becomes of images that are bad, alike or too few."""

    def write(self, folder: Path, *images: Image.Image) -> ImageSelection:
        folder.mkdir(exist_ok=True)
        for index, image in enumerate(images):
            image.save(folder / f"{index}.png")
        return select_images(folder, None)

    def test_unreadable_ones_are_skipped_and_counted(
        self, source: CalibrationSource, picture_folder: Path, tmp_path: Path
    ) -> None:
        for index in range(3):
            (tmp_path / f"{index}.png").write_bytes(b"no image")
        good = min(picture_folder.iterdir())
        (tmp_path / "good.png").write_bytes(good.read_bytes())
        result = run(source, select_images(tmp_path, None))
        assert (result.table.images.count, result.table.images.skipped, len(result.skipped)) == (1, 3, 3)
        assert len(result.table.images.contents) == 1
        assert any("only 1 calibration images" in warning for warning in result.warnings)

    def test_none_that_can_be_read(self, source: CalibrationSource, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        (tmp_path / "b.png").write_bytes(b"text")
        with pytest.raises(InputError, match=r"none of 2 can be used \(the first: .*a\.png is empty\)") as caught:
            run(source, select_images(tmp_path, None))
        assert caught.value.remedy

    def test_all_of_one_colour_also_where_the_channels_differ(self, source: CalibrationSource, tmp_path: Path) -> None:
        colours = [Image.new("RGB", (20, 20), colour) for colour in ("black", "red", (10, 200, 30))]
        with pytest.raises(InputError, match="each of the 3 is of one colour throughout"):
            run(source, self.write(tmp_path / "images", *colours))

    def test_some_of_one_colour_are_a_warning(
        self, source: CalibrationSource, picture_folder: Path, tmp_path: Path
    ) -> None:
        picture = Image.open(min(picture_folder.iterdir()))
        result = run(source, self.write(tmp_path / "images", Image.new("RGB", (20, 20), "white"), picture))
        assert any("1 images are of one colour" in warning for warning in result.warnings)

    def test_copies_are_a_warning(self, source: CalibrationSource, picture_folder: Path, tmp_path: Path) -> None:
        picture = Image.open(min(picture_folder.iterdir()))
        result = run(source, self.write(tmp_path / "images", picture, picture, picture))
        assert any("2 images are copies" in warning for warning in result.warnings)

    def test_fewer_than_asked_for_is_a_warning(self, source: CalibrationSource, picture_folder: Path) -> None:
        result = run(source, select_images(picture_folder, 41))
        assert result.warnings == ["41 images were asked for, there are only 40: all of them are used"]

    def test_one_that_vanishes_is_an_error(
        self, source: CalibrationSource, picture_folder: Path, tmp_path: Path
    ) -> None:
        selection = self.write(tmp_path / "images", Image.open(min(picture_folder.iterdir())))
        real = Collector.wait

        def wait(collector: Collector) -> None:
            real(collector)
            Path(selection.chosen[0].name).unlink(missing_ok=True)

        with mock.patch.object(Collector, "wait", wait), pytest.raises(InputError, match=r"0\.png: cannot be read"):
            run(source, selection)


def test_a_tensor_that_is_always_zero_gets_a_stand_in_and_is_named(net: Callable, calibrated: Callable) -> None:
    graph = net()
    top = graph.conv("input", "conv1", 4)
    graph.constants["conv1.weight"][:] = 0
    graph.constants["conv1.bias"][:] = -1
    graph.classifier(graph.conv(top, "conv2", 4))
    result = calibrated(graph.model())
    record = result.table.record_of("conv1")
    assert record.zero
    assert set(record.amax.values()) == {FALLBACK_AMAX}
    assert any("1 tensors are always zero, such as conv1" in warning for warning in result.warnings)


def test_values_too_small_for_a_scale_count_as_zero(net: Callable, calibrated: Callable) -> None:
    graph = net()
    top = graph.conv("input", "conv1", 4)
    for name in ("conv1.weight", "conv1.bias"):
        graph.constants[name][:] *= 1e-40
    graph.classifier(graph.conv(top, "conv2", 4))
    record = calibrated(graph.model()).table.record_of("conv1")
    assert record.maximum > 0
    assert record.zero
    assert set(record.amax.values()) == {FALLBACK_AMAX}


def test_a_model_that_yields_nan_is_named_with_its_tensor(net: Callable, calibrated: Callable) -> None:
    graph = net()
    graph.constants["huge"] = np.float32(3e38)
    top = graph.conv("input", "conv1", 4)
    graph.classifier(graph.conv(graph.add("Mul", [top, "huge"], "product"), "conv2", 4))
    with pytest.raises(BadModelError, match=r"model\.onnx: tensor 'product' contains NaN or infinite values"):
        calibrated(graph.model())


@pytest.mark.parametrize("options", [{"method": "median"}, {"percentile": 0}, {"percentile": 101}, {"batch_size": 0}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CalibrationOptions(**options)


class TestOpenSource:
    """What is known of a model before it is calibrated."""

    def test_its_own_preprocessing_and_properties(self, mini: Mini, model_file: Callable) -> None:
        opened = open_source(model_file(mini()))
        assert opened.preprocessing.channels == "BGR"
        assert opened.properties == {"architecture": "bvlc"}
        assert len(opened.sha256) == 64

    def test_the_given_preprocessing_wins(self, mini: Mini, model_file: Callable) -> None:
        given = replace(BVLC, resize=16, crop=(16, 16))
        assert open_source(model_file(mini()), given).preprocessing == given

    def test_a_model_that_does_not_say_is_refused(self, mini: Mini, model_file: Callable) -> None:
        model = mini()
        store_metadata(model, ModelMetadata())
        with pytest.raises(BadModelError, match="does not state how its images are prepared") as caught:
            open_source(model_file(model))
        assert "--preprocessing" in str(caught.value.remedy)

    def test_a_quantised_model_is_refused_when_it_is_calibrated(self, net: Callable, calibrated: Callable) -> None:
        graph = net()
        graph.constants.update(scale=np.float32(1), zero=np.int8(0))
        graph.channels["dq"] = 3
        graph.add("DequantizeLinear", [graph.add("QuantizeLinear", ["input", "scale", "zero"], "q"), "scale"], "dq")
        graph.classifier(graph.conv("dq", "conv1", 4))
        with pytest.raises(BadModelError, match="already quantised"):
            calibrated(graph.model())
