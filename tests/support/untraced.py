"""Coverage is not measured while other packages' code runs for long, since the tracer slows that down as well.

Until Python 3.12 the interpreter calls the tracer for every line of every package, and runs each line without its own
shortcuts: imports and torch's exporters take about twice as long. What is called back of ours from there is not
counted; tests that call it directly count it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

PACKAGE = "googlenet_deploy"
# Functions that run for seconds in Python, by module.
LONG_CALLS = {"torch.onnx": ("export",), "onnxruntime.quantization": ("quantize_static",)}


def without_tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, not traced by coverage; a debugger's tracer stays."""

    @functools.wraps(function)
    def untraced(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        if not type(tracer).__module__.startswith("coverage"):
            return function(*arguments, **options)
        # Off and on in one frame, since the tracer counts the calls and returns that it sees.
        sys.settrace(None)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(tracer)

    return untraced


def install() -> None:
    """From here on, other packages' modules are imported untraced, and their long calls run so."""
    plain = SourceFileLoader.exec_module
    untraced = without_tracing(plain)

    def exec_module(loader: SourceFileLoader, module: Any) -> None:
        if "site-packages" in Path(loader.path).parts and module.__name__.partition(".")[0] != PACKAGE:
            untraced(loader, module)
            _wrap(module)
        else:
            plain(loader, module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]
    for name in LONG_CALLS:
        if name in sys.modules:
            _wrap(sys.modules[name])


def _wrap(module: Any) -> None:
    for name in LONG_CALLS.get(module.__name__, ()):
        setattr(module, name, without_tracing(getattr(module, name)))
