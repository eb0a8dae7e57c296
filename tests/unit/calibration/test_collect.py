"""The pass over the images: folds, the counting thread, and the state that a later run goes on from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from googlenet_deploy.calibration.collect import (
    FOLDS,
    Collection,
    Collector,
    count_uniform,
    load_state,
    save_state,
)
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.errors import BadModelError, InputError
from googlenet_deploy.graph.session import TensorSession


def collected(values: np.ndarray, sizes: list[int]) -> Collection:
    collection = Collection.empty(["t"])
    start = 0
    for size in sizes:
        part = values[start : start + size]
        collection.add({"t": part}, [str(start + index) for index in range(len(part))])
        start += size
    return collection


def test_images_are_dealt_alternately_whatever_the_batches() -> None:
    values = np.random.default_rng(0).standard_normal((9, 4, 5)).astype(np.float32)
    first, second = collected(values, [9]), collected(values, [1, 4, 2, 2])
    for fold in range(FOLDS):
        assert np.array_equal(first.histograms["t"][fold].counts, second.histograms["t"][fold].counts)
        assert first.histograms["t"][fold].amax == np.abs(values[fold::FOLDS]).max()
    assert first.names == second.names
    assert first.images == second.images == 9


def test_a_value_that_is_no_number_names_its_tensor() -> None:
    with pytest.raises(FloatingPointError, match="tensor 't' contains NaN or infinite values, first with the image "):
        collected(np.array([[1.0], [np.nan]], np.float32), [2])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_of_one_colour_are_counted_also_where_the_channels_differ(layout: str) -> None:
    images = np.random.default_rng(1).standard_normal((4, 5, 5, 3)).astype(np.float32)
    images[1] = [1.0, 2.0, 3.0]
    images[3] = 0
    stripes = np.broadcast_to(np.arange(5.0)[None, None, :, None], (1, 5, 5, 3)).astype(np.float32)
    batch = np.concatenate([images, stripes])
    assert count_uniform(batch if layout == "NHWC" else batch.transpose(0, 3, 1, 2), layout) == 2


@pytest.fixture
def collection() -> Collection:
    values = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)
    made = collected(values, [2, 3])
    made.skipped.append(Skipped("bad.png", "is empty"))
    made.consumed, made.uniform = 6, 1
    return made


def test_the_state_comes_back_whole(collection: Collection, tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, collection, "print")
    loaded = load_state(path, "print")
    for fold in range(FOLDS):
        mine, stored = collection.histograms["t"][fold], loaded.histograms["t"][fold]
        assert np.array_equal(mine.counts, stored.counts)
        assert (mine.minimum, mine.maximum, mine.exponent) == (stored.minimum, stored.maximum, stored.exponent)
    for name in ("images", "names", "skipped", "consumed", "uniform"):
        assert getattr(loaded, name) == getattr(collection, name), name


def test_a_state_of_another_run_is_refused(collection: Collection, tmp_path: Path) -> None:
    save_state(tmp_path / "state", collection, "print")
    with pytest.raises(InputError, match="another model, other images or other options") as caught:
        load_state(tmp_path / "state", "other")
    assert caught.value.remedy == "remove the file to start again"


def test_a_state_of_another_version_is_refused(collection: Collection, tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, collection, "print")
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    header = json.loads(arrays["header"].tobytes())
    header["format"] = "googlenet-deploy calibration state 9"
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    with pytest.raises(InputError, match="another version"):
        load_state(path, "print")


def test_damaged_states_are_refused(collection: Collection, tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, collection, "print")
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    damaged = [whole[: len(whole) // 2], b"", b"no archive", whole[:200] + bytes(200) + whole[400:]]
    damaged += [bytes(random.integers(0, 256, 500, np.uint8)), whole[:-1]]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a calibration state, or is damaged"):
            load_state(path, "print")
    with pytest.raises(InputError, match="cannot be read"):
        load_state(tmp_path / "missing", "print")


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), everywhere=st.booleans())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_refused_or_changes_nothing(
    place: float, value: int, everywhere: bool, collection: Collection, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    save_state(path, collection, "print")
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) if everywhere else 200))] = value  # the head says how the rest is packed
    path.write_bytes(bytes(content))
    try:
        loaded = load_state(path, "print")
    except InputError:
        return
    save_state(path, loaded, "print")
    whole = path.read_bytes()
    save_state(path, collection, "print")
    assert whole == path.read_bytes()


def test_the_collector_counts_what_the_session_yields(mini: Callable[..., onnx.ModelProto], pictures: Callable) -> None:
    session = TensorSession(mini(), ["input", "conv1", "logits"])
    images = pictures(5)
    collection = Collection.empty(session.outputs)
    with Collector(session, collection, "NCHW").running() as collector:
        collector.add(images[:3], ["a", "b", "c"])
        collector.add(images[3:], ["d", "e"])
    whole = session.run(images)
    for name, folds in collection.histograms.items():
        assert max(fold.amax for fold in folds) == pytest.approx(np.abs(whole[name]).max(), rel=1e-5)
        assert sum(fold.total for fold in folds) == whole[name].size
    assert collection.names == ["a", "b", "c", "d", "e"]


def test_a_model_that_yields_nan_is_refused_by_name(net: Callable, pictures: Callable) -> None:
    graph = net()
    graph.constant("minus", np.float32(-1e9))
    bad = graph.add("Sqrt", [graph.add("Add", [graph.conv("input", "conv1", 4), "minus"], "shifted")], "root")
    graph.classifier(bad)
    collection = Collection.empty(["conv1", "root"])
    collector = Collector(
        TensorSession(graph.model(), list(collection.histograms), path="bad.onnx"), collection, "NCHW"
    )
    with pytest.raises(BadModelError, match=r"bad\.onnx: tensor 'root' contains NaN") as caught, collector.running():
        collector.add(pictures(2), ["a", "b"])
    assert "check the weights and the preprocessing" in str(caught.value.remedy)


def test_the_batch_before_ctrl_c_is_counted(mini: Callable[..., onnx.ModelProto], pictures: Callable) -> None:
    collection = Collection.empty(["input"])
    collector = Collector(TensorSession(mini(), ["input"]), collection, "NCHW")

    def interrupted() -> None:
        with collector.running():
            collector.add(pictures(2), ["a", "b"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert collection.images == 2
    assert sum(fold.total for fold in collection.histograms["input"]) == pictures(2).size
