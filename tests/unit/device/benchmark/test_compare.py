from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.benchmark.compare import ComparedFigure, compare, comparison_lines, ratio_of_means
from googlenet_deploy.device.benchmark.result_file import read_result
from googlenet_deploy.errors import InputError, UsageError

PATHS = ("a.json", "b.json")
times = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8)


def rows(first: Any, second: Any) -> dict[str, ComparedFigure]:
    return {row.figure: row for row in compare(first, second, PATHS).rows}


def test_the_made_up_result_fits_the_schema(make_result: Any, schema: Path) -> None:
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(make_result())


def test_a_faster_model(make_result: Any) -> None:
    found = rows(make_result(), make_result(0.5))
    latency, throughput, energy = found["run p50"], found["throughput"], found["energy per image"]
    assert latency.ratio == pytest.approx(0.5) == latency.second / latency.first
    assert latency.first == pytest.approx((4.0 * 4.04 * 3.96) ** (1 / 3))
    assert latency.interval is not None
    assert latency.interval[0] < 0.5 < latency.interval[1]
    assert latency.verdict == "B better"
    assert throughput.ratio == pytest.approx(2.0)
    assert throughput.verdict == "B better"
    assert energy.ratio == pytest.approx(0.5)
    assert found["energy above idle"].verdict == "B better"
    assert found["peak memory"].verdict == "no interval"


def test_the_same_result_twice_shows_no_difference(make_result: Any) -> None:
    verdicts = {row.verdict for row in rows(make_result(), make_result()).values()}
    assert verdicts == {"no difference", "no interval"}


def test_a_slower_model(make_result: Any) -> None:
    found = rows(make_result(), make_result(1.2))
    assert found["run p50"].verdict == found["throughput"].verdict == "B worse"


def test_figures_that_one_has_not_measured_are_left_out(make_result: Any) -> None:
    second = make_result()
    second["configurations"][0]["energy"]["run"] = {"not_measured": "there is no meter"}
    second["configurations"][0]["milliseconds"]["copy_in"] = {"not_measured": "a CPU copies nothing"}
    second["configurations"][0]["end_to_end_images_per_second"] = {"value": None, "not_measured": "x"}
    second["memory"]["process"]["peak"] = None
    found = rows(make_result(), second)
    assert "energy per image" not in found
    assert "copy_in p50" not in found
    assert "end-to-end throughput" not in found
    assert "peak memory" not in found
    assert "run p50" in found


def test_an_energy_below_zero_has_no_ratio(make_result: Any) -> None:
    second = make_result()
    second["configurations"][0]["energy"]["run"]["above_idle"]["value"] = -1.0
    assert "energy above idle" not in rows(make_result(), second)


@settings(deadline=None)
@given(times, times, st.floats(0.01, 100))
def test_a_ratio_scales_and_turns_around(first: list[float], second: list[float], factor: float) -> None:
    ratio, interval = ratio_of_means(first, second) or (0.0, None)
    assert interval is not None
    assert interval[0] <= ratio * (1 + 1e-9)
    assert ratio <= interval[1] * (1 + 1e-9)
    scaled, _ = ratio_of_means(first, [factor * value for value in second]) or (0.0, None)
    assert scaled == pytest.approx(factor * ratio)
    turned, around = ratio_of_means(second, first) or (0.0, None)
    assert turned == pytest.approx(1 / ratio)
    assert around is not None
    assert around[0] == pytest.approx(1 / interval[1])


def test_welch_on_a_textbook_case() -> None:
    first, second = [math.exp(value) for value in (1, 2, 3)], [math.exp(value) for value in (2, 4, 6)]
    ratio, interval = ratio_of_means(first, second) or (0.0, None)
    assert ratio == pytest.approx(math.exp(2))
    # Variances 1 and 4, three each: 25/9 / (1/9 + 16/9) / ... gives 2.94, counted as 2 degrees of freedom.
    assert interval is not None
    assert math.log(interval[1] / ratio) == pytest.approx(4.303 * math.sqrt(5 / 3))


def test_the_ratios_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(500):
        first, second = np.exp(generator.normal(0, 0.05, (2, 5)))
        _, interval = ratio_of_means(first.tolist(), (2 * second).tolist()) or (0, (0, 0))
        covered += interval is not None and interval[0] <= 2 <= interval[1]
    assert covered / 500 > 0.93


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([1.0], []), ([1.0, 0.0], [1.0]), ([1.0], [-1.0])])
def test_ratios_that_there_are_not(first: list[float], second: list[float]) -> None:
    assert ratio_of_means(first, second) is None


def test_single_rounds_have_a_ratio_without_an_interval() -> None:
    assert ratio_of_means([2.0], [3.0]) == (pytest.approx(1.5), None)


def test_other_machines_are_refused_unless_asked_for(make_result: Any) -> None:
    second = make_result()
    second["machine"] = {**second["machine"], "model": "NVIDIA Jetson AGX Orin Developer Kit", "cores": 12}
    with pytest.raises(UsageError, match="different machines") as error:
        compare(make_result(), second, PATHS)
    assert "model: NVIDIA Jetson Orin Nano Developer Kit and NVIDIA Jetson AGX Orin" in error.value.message
    assert "cores: 6 and 12" in error.value.message
    assert "--across-machines" in (error.value.remedy or "")
    assert compare(make_result(), second, PATHS, across_machines=True).rows


def test_inputs_of_another_shape_are_refused(make_result: Any) -> None:
    second = make_result()
    second["model"]["input"]["shape"] = [None, 3, 64, 64]
    with pytest.raises(UsageError, match="different shapes"):
        compare(make_result(), second, PATHS)


def test_configurations_in_common(make_result: Any) -> None:
    first, second = make_result(), make_result()
    other = {**second["configurations"][0], "batch": 8, "streams": 2}
    second["configurations"].append(other)
    found = compare(first, second, PATHS)
    assert found.left_out == ("batch 8, 2 streams (only B)",)
    assert {row.configuration for row in found.rows} == {"batch 1, 1 stream", "process"}
    second["configurations"] = [other]
    with pytest.raises(UsageError, match="no configuration in common") as error:
        compare(first, second, PATHS)
    assert error.value.remedy == "A has batch 1, 1 stream; B has batch 8, 2 streams"


def test_what_makes_a_comparison_doubtful(make_result: Any) -> None:
    second = make_result()
    second["model"]["sha256"] = "d" * 64
    second["model"]["source_sha256"] = "e" * 64
    second["backend"] = {**second["backend"], "name": "ONNX Runtime 1.32.0 (CPU)", "options": {}}
    second["images"] = {**second["images"], "kind": "synthetic", "sha256": "f" * 64}
    second["state"]["before"]["power_mode"] = "MAXN"
    second["state"]["throttling"] = ["power cap"]
    second["state"]["under_load"]["gpu_mhz"] = {"lowest": 1.0, "median": 612.0, "highest": 612.0}
    second["options"]["threads"] = 2
    second["configurations"][0]["warm_up"]["settled"] = False
    assert compare(make_result(), second, PATHS).warnings == (
        "the models differ: aaaaaaaaaaaa and dddddddddddd",
        "the weights that the models were made from differ: bbbbbbbbbbbb and eeeeeeeeeeee",
        "the backends differ: TensorRT 10.3.0 (Orin, cuda-bindings) and ONNX Runtime 1.32.0 (CPU)",
        "the backends' options differ: cuda_graph=False and none",
        "the images differ: cccccccccccc and ffffffffffff",
        "the kinds of images differ: real and synthetic",
        "the power modes differ: 15W and MAXN",
        "the CPU threads differ: none and 2",
        "B was slowed down while it was measured: power cap",
        "B's latency had not settled when it was measured",
        "the GPU ran at 1020 MHz for A and at 612 MHz for B",
    )
    assert compare(make_result(), make_result(), PATHS).warnings == ()


def test_as_text(make_result: Any) -> None:
    second = make_result(0.5)
    second["configurations"].append({**second["configurations"][0], "batch": 8})
    lines = comparison_lines(compare(make_result(), second, PATHS), *PATHS)
    assert lines[:3] == ["A: a.json", "B: b.json", ""]
    assert any(line.split() == ["batch", "1,", "1", "stream", "A", "B", "B/A", "95", "%", "interval"] for line in lines)
    (line,) = [line for line in lines if line.startswith("  run p50, ms")]
    assert line.split()[3:6] == ["4.000", "2.000", "0.500"]
    assert line.endswith("B better")
    assert "left out: batch 8, 1 stream (only B)" in lines


def test_as_json(make_result: Any) -> None:
    values = compare(make_result(), make_result(0.5), PATHS).to_dict()
    assert json.loads(json.dumps(values))["rows"][0]["verdict"] == "B better"


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path, make_result: Any) -> None:
    assert read_result(write(tmp_path / "a.json", make_result())) == make_result()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a JSON file"),
        ("{", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("[1]", "is not a result of a benchmark"),
        ("{}", "is not a result of a benchmark"),
        ('{"configurations": [], "format": 2}', "has format 2; this version reads format 1"),
        ('{"configurations": [], "format": 1}', "is damaged: model, backend"),
    ],
)
def test_files_that_are_no_results(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_result(write(tmp_path / "a.json", content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_result(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match="is not a JSON file"):
        read_result(tmp_path / "bytes.json")


@pytest.mark.parametrize("place", ["memory", "rounds", "value"])
def test_numbers_beyond_any_float_are_damage(place: str, make_result: Any) -> None:
    damaged = make_result()
    if place == "memory":
        damaged["memory"]["process"]["peak"] = 10**400
    elif place == "rounds":
        damaged["configurations"][0]["milliseconds"]["run"]["p50"]["rounds"] = [2**1024, 1.0]
    else:
        damaged["configurations"][0]["milliseconds"]["run"]["p50"] = {"value": 10**400, "rounds": []}
    with pytest.raises(InputError, match="is damaged: OverflowError"):
        compare(make_result(), damaged, PATHS)


@pytest.mark.parametrize("part", ["machine", "model", "configurations", "memory", "state", "images", "options"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 3, [None]])
def test_damaged_parts_are_told_without_a_traceback(part: str, value: Any, make_result: Any) -> None:
    with pytest.raises((InputError, UsageError)):
        compare(make_result(), make_result(**{part: value}), PATHS)
