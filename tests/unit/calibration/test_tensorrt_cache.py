"""TensorRT's calibration cache: golden files of several versions, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.calibration.placement import place
from googlenet_deploy.calibration.table import CalibrationTable, ImageRecord, TensorRecord, scale_from_amax
from googlenet_deploy.calibration.tensorrt_cache import (
    CalibrationCache,
    cache_from_table,
    header_number,
    load_cache,
    parse_cache,
)
from googlenet_deploy.calibration.watched_tensors import plan_observations
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadTableError, UsageError
from googlenet_deploy.graph.graph import GraphView

GOLDEN = Path(__file__).parents[2] / "data" / "calibration_caches"
VERSIONS = ("8.2.1", "8.4.1", "8.5.2", "8.6.2", "10.3.0")


def made_up(model: onnx.ModelProto, *, every_tensor: bool = True) -> CalibrationTable:
    """Amax 1, 2, 3, ... in graph order, doubled for the method max."""
    graph = GraphView(model)
    observations = plan_observations(graph, place(graph), every_tensor=every_tensor)
    records = []
    for number, seen in enumerate(observations, start=1):
        amax = {**dict.fromkeys([*METHODS, AUTO], float(number)), "max": 2.0 * number}
        records.append(TensorRecord(seen.members, 0.0, 2.0 * number, amax, "mse"))
    return CalibrationTable(tuple(records), AUTO, {}, ImageRecord(1, 2, 0, ""), BVLC, "0" * 64)


@pytest.fixture
def classifier(net: Callable) -> Callable[..., onnx.ModelProto]:
    """A stem with LRN, an Inception module with max-pools on both sides, and the classifier; weights are all ones."""

    def build(batch: object = 1) -> onnx.ModelProto:
        graph = net(batch=batch)
        top = graph.lrn(graph.max_pool(graph.conv("input", "conv1", 4), "maxpool1"), "norm1")
        graph.classifier(graph.max_pool(graph.inception(top, "inception", 4), "maxpool2"))
        for value in graph.constants.values():
            value[...] = 1.0
        graph.constants["fc.bias"][...] = 0.5
        model: onnx.ModelProto = graph.model()
        return model

    return build


@pytest.mark.parametrize("version", VERSIONS)
def test_the_file_is_the_golden_one(classifier: Callable, version: str, tmp_path: Path) -> None:
    cache, notes = cache_from_table(made_up(classifier()), classifier(), version)
    cache.save(tmp_path / "c.cache")
    assert (tmp_path / "c.cache").read_bytes() == (GOLDEN / f"{version}.cache").read_bytes()
    assert notes == []
    assert load_cache(tmp_path / "c.cache") == cache


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("8.2.1", 8201), ("8.4.1", 8401), ("8.5.2", 8502), ("8.5.2.2", 8502), ("8.6.2", 8602),
        ("10.3.0", 100300), ("10.16.2", 101602),
    ],
)  # fmt: skip
def test_header_numbers(version: str, number: int) -> None:
    assert header_number(version) == number


@pytest.mark.parametrize("version", ["8.5", "8", "", "eight", "8.5.x", "8.5.2-rc1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(UsageError, match=r"write major\.minor\.patch"):
        header_number(version)


def test_tensorrt_11_has_no_caches(classifier: Callable) -> None:
    with pytest.raises(UsageError, match="no calibration caches: pass it the Q/DQ model"):
        cache_from_table(made_up(classifier()), classifier(), "11.4.1")


def test_a_scale_is_its_float32_in_hexadecimal_digits() -> None:
    scale = 0.0078830718994140625
    assert CalibrationCache(8502, "EntropyCalibration2", {"input": scale}).to_text() == (
        f"TRT-8502-EntropyCalibration2\ninput: {struct.pack('>f', scale).hex()}\n"
    )
    published = parse_cache("TRT-8502-EntropyCalibration2\ninput: 3c010a14\n")
    assert published.scales["input"] == pytest.approx(1.000244 / 127, rel=1e-6)


FLOATS = st.floats(0, 2.0**127, width=32)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)


@given(st.dictionaries(NAMES, FLOATS, max_size=6), st.integers(7000, 109999))
def test_any_cache_is_read_back(scales: dict[str, float], number: int) -> None:
    cache = CalibrationCache(number, "MinMaxCalibration", scales)
    assert parse_cache(cache.to_text()) == cache


def test_names_with_spaces_and_colons_are_read() -> None:
    text = "TRT-8502-EntropyCalibration2\n(Unnamed Layer* 3) [Shuffle]_output: 3f800000\na: b: 0\n\n"
    assert parse_cache(text).scales == {"(Unnamed Layer* 3) [Shuffle]_output": 1.0, "a: b": 0.0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "does not begin with TRT-"),
        ("TRT-8502\ninput: 3c010a14\n", "does not begin with TRT-"),
        ("input: 3c010a14\n", "does not begin with TRT-"),
        ("TRT-8502-EntropyCalibration2\ninput 3c010a14\n", "line 2 is not"),
        ("TRT-8502-EntropyCalibration2\na: 3c010a14\nb: 0.5\n", "line 3 is not"),
        ("TRT-8502-EntropyCalibration2\na: 3c010a14ff\n", "line 2 is not"),
        ("TRT-8502-EntropyCalibration2\n: 3c010a14\n", "line 2 is not"),
        ("TRT-8502-EntropyCalibration2\na: 7fc00000\n", "line 2: the scale nan is impossible"),
        ("TRT-8502-EntropyCalibration2\na: ff800000\n", "line 2: the scale -inf is impossible"),
        ("TRT-8502-EntropyCalibration2\na: bf800000\n", "the scale -1.0 is impossible"),
    ],
)
def test_damaged_caches_are_refused(text: str, match: str) -> None:
    with pytest.raises(BadTableError, match=match):
        parse_cache(text, "some.cache")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTableError, match="cannot be read: no such file"):
        load_cache(tmp_path / "none.cache")
    (tmp_path / "binary.cache").write_bytes(b"TRT-8502-\xff\xfe")
    with pytest.raises(BadTableError, match="it is not text"):
        load_cache(tmp_path / "binary.cache")


def test_every_tensor_of_the_model_is_there(mini: Callable) -> None:
    cache, _ = cache_from_table(made_up(mini()), mini(), "8.6.2")
    assert set(GraphView(mini()).activations()) <= set(cache.scales)


def test_both_sides_of_pools_and_concats_have_one_scale(classifier: Callable) -> None:
    model = classifier()
    scales = cache_from_table(made_up(model), model, "8.5.2")[0].scales
    for node in GraphView(model).nodes:
        if node.op_type in ("Concat", "MaxPool", "Relu") and node.name != "maxpool1":
            assert {scales[name] for name in node.input} == {scales[node.output[0]]}, node.name


def test_another_method_and_algorithm(classifier: Callable) -> None:
    model = classifier()
    cache, _ = cache_from_table(made_up(model), model, "8.5.2", "MinMaxCalibration", method="max")
    assert cache.to_text().startswith("TRT-8502-MinMaxCalibration\ninput: ")
    assert cache.scales["input"] == scale_from_amax(2.0)
    with pytest.raises(UsageError, match="unknown algorithm 'Legacy'"):
        cache_from_table(made_up(model), model, "8.5.2", "Legacy")


def test_a_dynamic_batch_lacks_the_classifiers_inner_tensors_and_says_so(classifier: Callable) -> None:
    model = classifier(batch="batch")
    cache, notes = cache_from_table(made_up(model), model, "8.5.2")
    assert not any(name.startswith("(Unnamed Layer*") for name in cache.scales)
    assert len(notes) == 1
    assert "the batch is dynamic" in notes[0]


def test_behind_operators_of_unknown_layers_names_are_not_guessed(net: Callable) -> None:
    graph = net(batch=1)
    graph.channels["doubled"] = 3
    graph.classifier(graph.conv(graph.add("Add", ["input", "input"], "doubled"), "conv1", 4))
    model = graph.model()
    cache, notes = cache_from_table(made_up(model), model, "8.5.2")
    assert not any(name.startswith("(Unnamed Layer*") for name in cache.scales)
    assert len(notes) == 1
    assert "cannot be known here" in notes[0]
    assert "dynamic" not in notes[0]


def test_a_table_of_the_quantised_tensors_alone_names_what_is_missing(classifier: Callable) -> None:
    model = classifier()
    cache, notes = cache_from_table(made_up(model, every_tensor=False), model, "8.5.2")
    assert "conv1" not in cache.scales
    assert notes[0].startswith("the cache lacks ")
    assert "--tensors all" in notes[0]


def test_the_classifiers_constants_have_their_own_scales(classifier: Callable) -> None:
    model = classifier()
    new = cache_from_table(made_up(model), model, "8.5.2")[0].scales
    index = [node.name for node in GraphView(model).nodes].index("logits")
    assert new[f"(Unnamed Layer* {index}) [Constant]_output"] == scale_from_amax(1.0)
    assert new[f"(Unnamed Layer* {index + 1}) [Matrix Multiply]_output"] == new["logits"]
    assert new[f"(Unnamed Layer* {index + 2}) [Constant]_output"] == scale_from_amax(0.5)
    old = cache_from_table(made_up(model), model, "8.2.1")[0].scales
    assert old[f"(Unnamed Layer* {index}) [Shuffle]_output"] == old["flatten"]
    assert not any("Matrix Multiply" in name for name in old)
    both = cache_from_table(made_up(model), model, "8.4.1")[0].scales
    assert set(old) | set(new) == set(both)
    assert np.isfinite(list(both.values())).all()
