"""Coverage's tracer is off in other packages' long calls and imports, and on again behind them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch.onnx
from untraced import without_tracing


class Tracer:
    """Remembers which functions were called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, frame: Any, event: str, _: object) -> Tracer:
        if event == "call":
            self.seen.append(frame.f_code.co_name)
        return self


class CoverageTracer(Tracer):
    """Its class looks like one of coverage's."""

    __module__ = "coverage.tracer"


def foreign() -> None:
    own()


def own() -> None:
    pass


def failing() -> None:
    raise ValueError("as asked")


def seen_by(tracer: Tracer, *functions: Callable[[], object]) -> list[str]:
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        for function in functions:
            function()
    finally:
        sys.settrace(before)
    return tracer.seen


def test_a_long_call_is_not_traced_and_what_follows_is() -> None:
    assert seen_by(CoverageTracer(), without_tracing(foreign), own) == ["untraced", "own"]


def test_an_error_in_it_turns_tracing_on_again() -> None:
    def caught() -> None:
        with pytest.raises(ValueError, match="as asked"):
            without_tracing(failing)()

    seen = seen_by(CoverageTracer(), caught, own)
    assert "failing" not in seen
    assert seen[-1] == "own"


def test_a_debugger_sees_everything() -> None:
    assert seen_by(Tracer(), without_tracing(foreign)) == ["untraced", "foreign", "own"]


@pytest.mark.parametrize(("folder", "traced"), [("site-packages", False), ("src", True)])
def test_only_other_packages_modules_are_imported_untraced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, traced: bool
) -> None:
    name = f"module_of_{folder.replace('-', '_')}"
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"{name}.py").write_text("import sys\nTRACER = sys.gettrace()\n")
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    tracer = CoverageTracer()
    seen_by(tracer, lambda: import_module(name))
    assert (sys.modules.pop(name).TRACER is tracer) == traced


def test_torchs_exporter_is_one_of_them() -> None:
    assert torch.onnx.export.__wrapped__.__module__ == "torch.onnx"  # type: ignore[attr-defined]
