from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuned_example import TUNED

from googlenet_deploy.device.tune.tuned_file import load_tuned, save_tuned
from googlenet_deploy.errors import InputError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    save_tuned(tmp_path / "tuned.json", TUNED)
    assert load_tuned(tmp_path / "tuned.json") == TUNED
    values = json.loads((tmp_path / "tuned.json").read_text())
    assert list(values)[:3] == ["format", "version", "tool"]
    assert values["results"][0]["setting"]["batch"] == 2


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_tuned(tmp_path / name, TUNED)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


Change = Callable[[dict[str, Any]], object]


def set_at(*path: Any) -> Change:
    """A change that puts the last of the path where the others lead."""

    def change(values: Any) -> None:
        *way, key, value = path
        for step in way:
            values = values[step]
        values[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("format", "something else"), "is not a result of tune"),
        (set_at("version", 2), "has version 2; this googlenet-deploy reads version 1"),
        (set_at("version", True), "has version True"),
        (lambda values: values.pop("results"), "tuned.results is missing"),
        (set_at("unknown", 1), "unknown entry 'unknown'"),
        (set_at("chosen", 3), "tuned.chosen is not one of the results"),
        (set_at("chosen", -1), "tuned.chosen is not a number from 0 on"),
        (set_at("chosen", "0"), "tuned.chosen is not int"),
        (set_at("ties", 0, 7), "is not one of the results"),
        (set_at("chosen", None), "tuned.ties is not empty without a choice"),
        (set_at("nearest", 1), "tuned.nearest is not null beside a choice"),
        (set_at("objective", "beauty"), "tuned.objective is not one of energy"),
        (set_at("results", 0, "setting", "batch", 0), "setting.batch is not from 1 to 4096"),
        (set_at("results", 0, "setting", "batch", 10**400), "too large|is not from 1"),
        (set_at("results", 0, "setting", "batch", True), "batch is not int"),
        (set_at("results", 0, "setting", "streams", 65), "setting.streams is not from 1 to 64"),
        (set_at("results", 0, "setting", "threads", 10**6), "setting.threads is not a number of threads"),
        (set_at("results", 0, "setting", "backend", "/bin/sh"), "setting.backend is not one of"),
        (set_at("results", 0, "setting", "model", "other.onnx"), "setting.model is not one of the models"),
        (set_at("results", 0, "latency_ms", "value", -1.0), "latency_ms.value is not a number from 0 on"),
        (set_at("results", 0, "latency_ms", "value", 10**400), "too large a number"),
        (set_at("results", 0, "agreement", [98]), "agreement is not float"),
        (set_at("models", 0, "sha256", "../../x"), "is not a SHA-256"),
        (set_at("models", 0, "bytes", -5), "bytes is not a number from 0 on"),
        (lambda values: values["models"].append(values["models"][0]), "is not a list of different models"),
        (set_at("machine", ["x"]), "tuned.machine is not an object"),
        (set_at("notes", {"a": 1}), "tuned.notes is not a list"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused_in_one_line(tmp_path: Path, change: Change, message: str) -> None:
    path = tmp_path / "tuned.json"
    save_tuned(path, TUNED)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as error:
        load_tuned(path)
    assert error.value.message.startswith(f"{path}: ")
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a JSON file"),
        (b"[1, 2]", "is not a result of tune"),
        (b"\xff\xfe{}", "is not a JSON file"),
        (b"[" * 100_000, "is not a JSON file"),
        (b'{"format": "googlenet-deploy tuned", "version": NaN}', "NaN is not a number"),
        (b" " * (2**24 + 1), "is larger than 16 MiB"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_tuned(path)


def test_infinity_by_a_large_exponent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    save_tuned(path, TUNED)
    path.write_text(path.read_text().replace('"value": 2.0', '"value": 1e999'))
    with pytest.raises(InputError, match=r"latency_ms.value is not a number from 0 on"):
        load_tuned(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_tuned(path)
