"""README, docs and help texts: links lead somewhere, paths exist, and every command line that they show parses."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<place>[^)#:]+)(?:#[^)]*)?\)|src=\"(?P<source>[^\"]+)\"")
PROGRAMS = {alias: name for name, command in COMMANDS.items() for alias in command.aliases}
PROGRAM = re.compile(r"^(?:\$ |  )?(googlenet-deploy|python3 googlenet-device\.pyz|" + "|".join(PROGRAMS) + r") ")


def commands_in(text: str) -> Iterator[list[str]]:
    """The toolkit's command lines in a text, as name and arguments."""
    for line in re.sub(r"\\?\n {4,}(?=--)", " ", text).splitlines():
        found = PROGRAM.match(line)
        if found:
            words = shlex.split(line[found.end() :])
            yield [PROGRAMS[found[1]], *words] if found[1] in PROGRAMS else words


def shown_commands() -> list[tuple[str, list[str]]]:
    shown = [
        (page.name, words)
        for page in PAGES
        if page.parent.name != "examples"  # those run, in tests/integration/test_examples.py
        for fence in FENCE.finditer(page.read_text(encoding="utf-8"))
        for words in commands_in(fence["text"])
    ]
    for name in COMMANDS:
        examples = (import_module(f"googlenet_deploy.cli.{name}").__doc__ or "").partition("Examples:\n")[2]
        shown += [(f"{name} --help", words) for words in commands_in(examples)]
    return shown


def test_command_lines_are_found() -> None:
    assert list(commands_in("$ googlenet-infer m.onnx a.jpg\n")) == [["infer", "m.onnx", "a.jpg"]]
    assert list(commands_in("googlenet-deploy train --data d \\\n    --lr 1\n")) == [
        ["train", "--data", "d", "--lr", "1"]
    ]
    assert len({words[0] for _, words in shown_commands()}) == len(COMMANDS), "every command has an example"


@pytest.mark.parametrize(
    ("place", "words"), shown_commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_a_command_line_that_is_shown_parses(place: str, words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog=place, exit_on_error=True)
    import_module(f"googlenet_deploy.cli.{words[0]}").add_arguments(parser)
    parser.parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        place = found["place"] or found["source"]
        assert (page.parent / place).exists(), place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_that_is_shown_is_python(page: Path) -> None:
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] == "python":
            ast.parse(fence["text"])


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    missing = [
        page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md" and f"({page.name})" not in index
    ]
    assert not missing


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place in re.findall(r"`((?:gd|export|calibration|tests|docs)/[\w./]+)`", text):
        if "NAME" not in place:
            assert (ROOT / re.sub("^gd/", "googlenet_deploy/", place)).exists(), place


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 220
