"""The table's file: its very bytes, what is read back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.calibration.placement import ScaleGroup
from googlenet_deploy.calibration.table import (
    CalibrationTable,
    ImageRecord,
    TensorRecord,
    check_matches,
    group_scales,
    load_table,
    scale_from_amax,
)
from googlenet_deploy.device.specification import BVLC, TORCHVISION
from googlenet_deploy.errors import BadTableError

GOLDEN = Path(__file__).parents[2] / "data" / "calibration_table.json"


def record(*members: str, amax: float = 2.0, **changes: Any) -> TensorRecord:
    values = {method: amax * share for method, share in zip((*METHODS, AUTO), (1, 0.9, 0.7, 0.8, 0.75), strict=True)}
    made = TensorRecord(
        members=members,
        minimum=-0.5,
        maximum=amax,
        amax=values,
        chosen="0.75 of max",
        errors=dict.fromkeys(values, 30.125),
        saturated={**dict.fromkeys(values, 0.001), "max": 0.0},
    )
    return replace(made, **changes)


def table(*records: TensorRecord) -> CalibrationTable:
    return CalibrationTable(
        records=records
        or (record("input", amax=151.0), record("conv1", "maxpool1"), record("dead", zero=True, amax=1)),
        method=AUTO,
        options={"percentile": 99.999},
        images=ImageRecord(3, 2, 1, "ab" * 32, ("0011aabb", "ccdd2233", "44556677")),
        preprocessing=BVLC,
        model_sha256="12" * 32,
        model={"architecture": "bvlc"},
        tool_version="0.1.0",
    )


def test_the_file_is_the_golden_one(tmp_path: Path) -> None:
    table().save(tmp_path / "table.json")
    assert (tmp_path / "table.json").read_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ({"antialias": False}, {"antialias": False}),
        ({"resize_mode": "stretch", "resize": 224}, {"resize_mode": "stretch"}),
        ({"resize_mode": "letterbox", "resize": 224, "fill": (7,)}, {"resize_mode": "letterbox", "fill": [7]}),
    ],
)
def test_later_fields_of_the_preprocessing_are_written_where_they_matter(
    tmp_path: Path, stated: dict[str, Any], written: dict[str, Any]
) -> None:
    made = replace(table(), preprocessing=replace(BVLC, **stated))
    made.save(tmp_path / "table.json")
    found = json.loads((tmp_path / "table.json").read_text())["preprocessing"]
    assert {key: found[key] for key in ("resize_mode", "antialias", "fill") if key in found} == written
    assert load_table(tmp_path / "table.json") == made


def test_the_golden_file_is_read_back() -> None:
    assert load_table(GOLDEN) == table()


POSITIVE = st.floats(1e-30, 1e30)


@given(st.lists(POSITIVE, min_size=1, max_size=5), st.sampled_from([*METHODS, AUTO]))
@settings(max_examples=30, deadline=None)
def test_any_table_comes_back_as_it_was(ranges: list[float], method: str) -> None:
    made = replace(table(*(record(f"tensor {i}", amax=value) for i, value in enumerate(ranges))), method=method)
    assert made == _reread(made)


def _reread(made: CalibrationTable) -> CalibrationTable:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        made.save(Path(folder) / "t.json")
        return load_table(Path(folder) / "t.json")


def test_a_record_speaks_for_all_its_members() -> None:
    made = table()
    assert made.amax("maxpool1") == made.amax("conv1") == pytest.approx(1.5)
    assert made.amax("conv1", "max") == 2.0
    assert made.record_of("nothing") is None
    with pytest.raises(BadTableError, match="contains nothing about tensor 'nothing'"):
        made.amax("nothing")
    with pytest.raises(BadTableError, match="no threshold by method 'median'"):
        made.amax("conv1", "median")


def test_which_images_were_used() -> None:
    images = table().images
    assert images.holds("ccdd2233" + "0" * 56)
    assert not images.holds("ccdd2234" + "0" * 56)


def test_scales_are_float32_and_equal_within_a_group() -> None:
    groups = [
        ScaleGroup(("input",), ("input",)),
        ScaleGroup(("conv1", "maxpool1"), ("conv1",)),
        ScaleGroup(("maxpool1",), ("maxpool1",)),
    ]
    scales = group_scales(groups, table(), "max")
    assert scales["conv1"] == scales["maxpool1"] == np.float32(2) / np.float32(127)
    assert scales["input"] == float(np.float32(scales["input"])) == scale_from_amax(151.0)
    with pytest.raises(BadTableError, match="nothing about tensor 'conv2'"):
        group_scales([ScaleGroup(("conv2",), ("conv2",))], table())


def test_a_group_of_several_tensors_covers_the_widest() -> None:
    group = ScaleGroup(("input", "conv1"), ("input", "conv1"))
    assert set(group_scales([group], table(), "max").values()) == {scale_from_amax(151.0)}


class TestMatch:
    """A table belongs to one model and one preprocessing."""

    def test_its_own(self) -> None:
        assert check_matches(table(), "t.json", "12" * 32, BVLC) == []

    def test_another_model(self) -> None:
        with pytest.raises(BadTableError, match=r"t\.json: was made from another model \(SHA-256 1212") as caught:
            check_matches(table(), "t.json", "34" * 32, BVLC)
        assert "calibrate this model" in str(caught.value.remedy)

    def test_another_preprocessing(self) -> None:
        with pytest.raises(BadTableError, match="another preprocessing: channels BGR, the model's is RGB"):
            check_matches(table(), "t.json", "12" * 32, TORCHVISION)

    def test_a_model_that_does_not_say(self) -> None:
        assert len(check_matches(table(), "t.json", "12" * 32, None)) == 1


class TestRefused:
    """Whatever is wrong with the file is one clear error that names it."""

    def refused(self, path: Path, match: str) -> BadTableError:
        with pytest.raises(BadTableError, match=match) as caught:
            load_table(path)
        assert str(path) in caught.value.message
        return caught.value

    def changed(self, tmp_path: Path, change: Any) -> Path:
        values = table().to_dict()
        values = json.loads(json.dumps(values))
        change(values)
        path = tmp_path / "t.json"
        path.write_text(json.dumps(values))
        return path

    def test_missing(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none.json", "cannot be read: no such file")

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": "x"}', b"[]", b"3"])
    def test_no_table(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "t.json").write_bytes(content)
        self.refused(tmp_path / "t.json", "is not a calibration table")

    def test_truncated(self, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_bytes(GOLDEN.read_bytes()[:-40])
        self.refused(tmp_path / "t.json", "is not a calibration table")

    def test_a_newer_version(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, lambda values: values.update(version=2))
        self.refused(path, "format version 2, this tool reads 1")

    @pytest.mark.parametrize(
        "key", ["tensors", "method", "options", "images", "preprocessing", "model_sha256", "model"]
    )
    def test_a_missing_part(self, tmp_path: Path, key: str) -> None:
        error = self.refused(self.changed(tmp_path, lambda values: values.pop(key)), f"'{key}' is missing")
        assert error.remedy == "run `calibrate` again"

    @pytest.mark.parametrize("amax", [0, -1, float("nan"), float("inf"), 1e300, 1e-300, "wide", None])
    def test_an_impossible_threshold(self, tmp_path: Path, amax: Any) -> None:
        path = self.changed(tmp_path, lambda values: values["tensors"][0]["amax"].update(entropy=amax))
        self.refused(path, "damaged calibration table")

    def test_a_missing_method(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, lambda values: values["tensors"][1]["amax"].pop("mse"))
        self.refused(path, "conv1: no threshold by method 'mse'")

    def test_an_impossible_range(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, lambda values: values["tensors"][0].update(minimum=5000.0))
        self.refused(path, "input: its range is impossible")

    def test_a_tensor_named_twice(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, lambda values: values["tensors"][1]["members"].append("input"))
        self.refused(path, "a tensor is named twice")

    def test_no_tensors(self, tmp_path: Path) -> None:
        self.refused(self.changed(tmp_path, lambda values: values.update(tensors=[])), "or none is")

    def test_an_unknown_method(self, tmp_path: Path) -> None:
        self.refused(self.changed(tmp_path, lambda values: values.update(method="guess")), "unknown method 'guess'")

    def test_an_unknown_preprocessing(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, lambda values: values["preprocessing"].update(channels="XYZ"))
        self.refused(path, "channels is 'XYZ'")

    @pytest.mark.parametrize("value", [[], "text", 3, None])
    def test_parts_of_another_kind(self, tmp_path: Path, value: Any) -> None:
        for key in ("tensors", "images", "preprocessing", "options", "model"):
            if value == [] and key == "tensors":
                continue
            path = self.changed(tmp_path, lambda values, key=key: values.update({key: value}))
            self.refused(path, "calibration table")
