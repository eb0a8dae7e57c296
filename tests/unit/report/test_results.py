"""Results survive their file, and what is no results file is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.errors import InputError
from googlenet_deploy.report.results import Results, load_results, save_results


def test_they_survive_their_file(full: Results, bare: Results, tmp_path: Path) -> None:
    for results in (full, bare):
        save_results(tmp_path / "results.json", results)
        assert load_results(tmp_path / "results.json") == results


def test_parts_are_found_by_name(full: Results, bare: Results) -> None:
    assert full.deployed is full.variant("int8")
    assert bare.deployed is None
    assert bare.why_missing("accuracy") == "the images have no labels"
    assert bare.why_missing("layers") == "this run did not make it"


def changed(full: Results, path: Path, change: Any) -> Path:
    save_results(path, full)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v.update(format="other"), "is not a results file"),
        (lambda v: v.update(schema_version=9), "schema version 9"),
        (lambda v: v.pop("schema_version"), "schema version None"),
        (lambda v: v.pop("subject"), r"results.subject is missing"),
        (lambda v: v.update(surprise=1), "unknown entry 'surprise'"),
        (lambda v: v["steps"][0].update(seconds="long"), r"results.steps\[0\].seconds is not float"),
        (lambda v: v["steps"][0].update(name=None), r"results.steps\[0\].name is not str"),
        (lambda v: v["gates"][0].update(holds=1), r"holds is not bool"),
        (lambda v: v["subject"].update(classes=True), r"classes is not int"),
        (lambda v: v.update(layers={}), r"results.layers is not a list"),
        (lambda v: v.update(environment=[]), r"results.environment is not an object"),
        (lambda v: v.update(subject=[]), r"results.subject is not an object"),
    ],
)
def test_damage_is_named(full: Results, tmp_path: Path, change: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_results(changed(full, tmp_path / "results.json", change))


def test_a_newer_schema_says_what_to_do(full: Results, tmp_path: Path) -> None:
    path = changed(full, tmp_path / "r.json", lambda values: values.update(schema_version=3))
    with pytest.raises(InputError) as caught:
        load_results(path)
    assert caught.value.remedy == "update googlenet-deploy"


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\ud800"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="is not a results file"):
        load_results(tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_results(tmp_path / "nothing.json")


def test_every_field_is_documented(repository: Path, full: Results) -> None:
    text = (repository / "docs/results-schema.md").read_text(encoding="utf-8")

    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for item in value.values() for name in names(item)}
        return {name for item in value for name in names(item)} if isinstance(value, list) else set()

    free = {"int8", "fp16", "max", "mse", "p50", "p95", "p99", "Python", "model.onnx"}  # keys of free mappings
    values = json.loads(json.dumps(full.to_dict()))
    missing = sorted(name for name in names(values) - free if f"`{name}`" not in text)
    assert not missing
