"""Runs the commands on a fixed corpus of damaged files; `make fuzz` runs as many as requested."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import child
import pytest
from child import Outcome
from corpus import INFER, KINDS, make_corpus, seal_bundle_manifest, seal_manifest
from fuzz import Case, minimise, run_number

CASES = 240
MANY = int(os.environ.get("N", "2000"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("first", range(0, CASES, 40))
def test_damaged_files_are_refused_or_answered_right(corpus: Path, first: int) -> None:
    faults = []
    for number in range(first, first + 40):
        case, outcome = run_number(number, corpus)
        if not outcome.good:
            faults.append((number, case.command, outcome))
    assert faults == []


@pytest.mark.fuzz
def test_many_damaged_files(corpus: Path) -> None:
    faults = [
        (number, outcome) for number in range(MANY) for _, outcome in [run_number(number, corpus)] if not outcome.good
    ]
    assert faults == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_case_is_made_again_from_its_number(corpus: Path, kind: object) -> None:
    number = next(number for number in range(1000) if Case.of(number).kind is kind)
    assert Case.of(number) == Case.of(number)
    assert Case.of(number).content(corpus) == Case.of(number).content(corpus)


def test_what_is_valid_is_accepted(corpus: Path) -> None:
    for kind in KINDS[:3]:
        for file in kind.files:
            command = INFER if kind.name == "model" else kind.commands[0]
            content = (corpus / file).read_bytes()
            outcome = Case(0, kind, file, command, 1).run(corpus, content)
            assert outcome.kind in ("equal", "accepted"), (file, outcome)
    assert Case(0, KINDS[4], "m.engine.json", "inspect {out}/m.engine", 1).run(
        corpus, seal_manifest((corpus / "m.engine.json").read_bytes())
    ) == Outcome("accepted", "")
    whole, bundle = KINDS[5], KINDS[6]
    content = (corpus / "whole.safetensors").read_bytes()
    assert Case(0, whole, "whole.safetensors", whole.commands[0], 1).run(corpus, content) == Outcome("accepted", "")
    manifest = (corpus / "bundle/manifest.json").read_bytes()
    assert seal_bundle_manifest(manifest) == manifest
    for command in bundle.commands:
        assert Case(0, bundle, "bundle/manifest.json", command, 1).run(corpus, manifest) == Outcome("accepted", "")


def test_faults_are_seen(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of fault is detected, caused on purpose by replacing the command."""

    def crash(words: list[str]) -> int:
        os.kill(os.getpid(), 11)
        return 0

    def hang(words: list[str]) -> int:
        while True:
            pass

    def unnamed(words: list[str]) -> int:
        print("googlenet-deploy inspect: error: something is wrong", file=sys.stderr)
        return 1

    def raw(words: list[str]) -> int:
        print("\x1b[2J")
        return 0

    def wrong(words: list[str]) -> int:
        classes = '{"class": 0, "name": "a", "probability": 0.9}'
        print(f'{{"image": "red.png", "classes": [{classes}]}}')
        return 0

    case = Case(0, KINDS[0], "float.onnx", INFER, 1)
    content = (corpus / "float.onnx").read_bytes()
    for command, kind in (
        (lambda words: 1 // 0, "traceback"), (crash, "crash"), (hang, "hang"), (unnamed, "unnamed"), (raw, "traceback"),
        (wrong, "wrong"), (lambda words: len(bytearray(2**36)), "traceback"),
    ):  # fmt: skip
        monkeypatch.setattr(child, "main", command)
        if kind == "hang":
            monkeypatch.setattr(child, "SECONDS", 1)
        assert case.run(corpus, content).kind == kind, kind
    monkeypatch.setattr(child, "main", raw)
    assert Case(0, KINDS[0], "float.onnx", "inspect {}", 1).run(corpus, content).kind == "raw"


def test_minimised_to_the_first_mutations_that_it_takes(corpus: Path) -> None:
    case = next(case for case in map(Case.of, range(500)) if case.kind.name == "model" and case.steps == 3)
    whole = case.run(corpus, case.content(corpus))
    smaller = minimise(case, corpus, whole.signature)
    assert case.run(corpus, smaller).signature == whole.signature
