from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from googlenet_deploy import __version__
from googlenet_deploy.cli import main as module
from googlenet_deploy.cli.main import COMMANDS, command_parser, main, run_command
from googlenet_deploy.device.options import GROUPS, sort_groups
from googlenet_deploy.errors import BadModelError, GateError, MissingExtraError, UsageError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], int]], None]:
    """Puts a function in the place of the command ``infer``."""

    def install(run: Callable[[argparse.Namespace], int]) -> None:
        fake = ModuleType("googlenet_deploy.cli.infer", "What it does.")
        fake.add_arguments = lambda parser: parser.add_argument("--count", type=int)  # type: ignore[attr-defined]
        fake.run = run  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "import_module", lambda name: fake)

    return install


@pytest.fixture
def sigint() -> Iterator[Callable[[Any], object]]:
    """Sets what Ctrl-C does, whatever this process inherited (a background job ignores it), and puts that back."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def raises(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


def test_a_command_gets_its_arguments_and_gives_its_status(command: Any) -> None:
    command(lambda arguments: arguments.count)
    assert main(["infer", "--count", "3"]) == 3
    assert main(["googlenet-infer", "--count", "0"]) == 0


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (BadModelError("m.onnx", "is empty", "export it again"), 1, "error: m.onnx: is empty\n  export it again\n"),
        (UsageError("--a or --b"), 2, "error: --a or --b\n"),
        (GateError("top1 is 3"), 3, "error: top1 is 3\n"),
        (MissingExtraError("onnx", "export"), 1, "'onnx', which is not installed\n  pip install 'googlenet-deploy[exp"),
        (
            ModuleNotFoundError("No module", name="PIL"),
            1,
            "needs the Python package 'PIL'\n  pip install pillow, or apt",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError(), 1, "error: out of memory\n"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "error: a/b: permission denied\n"),
        (OSError(28, "No space left on device"), 1, "error: standard output: no space left on device\n"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, text: str, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raises(error))
    assert run_command("infer", [], "googlenet-infer") == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert not captured.err or captured.err.startswith("googlenet-infer: ")


def test_an_error_of_ours_is_not_hidden(command: Any) -> None:
    for error in (ZeroDivisionError(), ModuleNotFoundError("No module", name="googlenet_deploy.nothing")):
        command(raises(error))
        with pytest.raises(type(error)):
            main(["infer"])


@pytest.mark.parametrize("error", [MissingExtraError("numpy", "export"), RuntimeError("of a library"), None])
def test_ctrl_c_stays_ctrl_c_whatever_a_library_makes_of_it(
    error: Exception | None, command: Any, capsys: pytest.CaptureFixture[str], sigint: Callable[[Any], object]
) -> None:
    sigint(signal.default_int_handler)

    def run(_: argparse.Namespace) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if error is None:
                raise
        raise error or AssertionError

    command(run)
    assert main(["infer"]) == 130
    assert capsys.readouterr() == ("", "googlenet-deploy infer: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so(command: Any, sigint: Callable[[Any], object]) -> None:
    def run(_: argparse.Namespace) -> int:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return 0

    command(run)
    sigint(signal.SIG_IGN)
    assert main(["infer"]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_in_another_thread_it_works_too(command: Any) -> None:
    command(lambda arguments: arguments.count)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(["infer", "--count", "3"])))
    thread.start()
    thread.join()
    assert statuses == [3]


def test_wrong_options_are_wrong_usage(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda _: 0)
    for arguments in (["infer", "--count", "x"], ["infer", "--nonsense"], ["nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: googlenet-deploy" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in text
        assert entry.help in text
    assert "exit status: 0 done" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"googlenet-deploy {__version__}\n"


@pytest.mark.parametrize(
    ("entry", "name"), [("export_onnx", "export"), ("build_engine", "build"), ("googlenet_infer", "infer")]
)
def test_short_names_are_the_same_commands(entry: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str], str]] = []
    monkeypatch.setattr(module, "run_command", lambda *arguments: calls.append(arguments) or 7)
    monkeypatch.setattr(sys, "argv", ["program", "--x", "y"])
    assert getattr(module, entry)() == 7
    assert calls == [(name, ["--x", "y"], entry.replace("_", "-"))]
    assert entry.replace("_", "-") in COMMANDS[name].aliases


def python(code: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    code = "import sys\nfrom googlenet_deploy.cli import main as m\n" + code
    return subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, **options)


PRINT = """
from types import ModuleType
fake = ModuleType("fake")
fake.add_arguments = lambda parser: None
fake.run = lambda arguments: print({text}) or 0
m.import_module = lambda name: fake
sys.exit(m.main(["infer"]))
"""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_disk_behind_standard_output_is_one_line(size: int) -> None:
    with Path("/dev/full").open("wb") as full:
        result = python(PRINT.format(text=f"'x' * {size}"), stdout=full)
    assert result.returncode == 1
    assert result.stderr == b"googlenet-deploy infer: error: standard output: no space left on device\n"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reader_that_has_gone_is_no_traceback(size: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        result = python(PRINT.format(text=f"'x' * {size}"), stdout=pipe)
    assert (result.returncode, result.stderr) == (1, b"")


def test_file_names_that_are_not_text_can_be_printed() -> None:
    result = python(PRINT.format(text="'caf\\udce9 \\u00e4'"), stdout=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode("utf-8") == "caf\\udce9 ä\n"


def test_without_standard_output_it_still_works() -> None:
    result = python("sys.stdout = None\n" + PRINT.format(text="'x'"))
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_its_groups_in_one_order(name: str) -> None:
    headings = re.findall(r"^([a-zA-Z].*):$", command_parser(name, name).format_help(), re.MULTILINE)
    headings = headings[headings.index("Examples") + 1 :]
    general = [title for title in headings if title in ("positional arguments", "options")]
    assert headings[: len(general)] == general == sorted(general, reverse=True)
    assert len(set(headings)) == len(headings)
    places = [GROUPS.index(title) for title in headings[len(general) :]]
    assert places == sorted(places)


def test_groups_are_sorted_whatever_the_order_of_the_options() -> None:
    parser = argparse.ArgumentParser()
    for title in ("report", "images", "power"):
        parser.add_argument_group(title).add_argument(f"--{title}")
    sort_groups(parser)
    text = parser.format_help()
    assert text.index("options:") < text.index("images:") < text.index("power:") < text.index("report:")
