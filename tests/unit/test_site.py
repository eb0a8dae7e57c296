"""The documentation site's sources; `make docs` builds it strictly."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from googlenet_deploy import __all__ as public_names
from googlenet_deploy.cli.main import COMMANDS


@pytest.fixture(scope="module")
def site_source(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_source", repository / "scripts" / "site_source.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_its_place(repository: Path, site_source: ModuleType, tmp_path: Path) -> None:
    assert site_source.copy_pages(tmp_path) > 20
    named = set(re.findall(r"[\w./-]+\.md", (repository / "mkdocs.yml").read_text(encoding="utf-8")))
    generated = {"reference/commands.md", "reference/api.md"}
    assert {page for page in named if not (tmp_path / page).is_file()} == generated
    assert {f"docs/{path.name}" for path in (repository / "docs").glob("*.md")} <= named
    assert (tmp_path / "docs" / "benchmark.schema.json").is_file(), "what a page links to comes with it"
    styles = re.findall(r"[\w./-]+\.css", (repository / "mkdocs.yml").read_text(encoding="utf-8"))
    assert styles
    assert all((tmp_path / style).is_file() for style in styles)


def test_the_reference_has_every_command_and_name(site_source: ModuleType) -> None:
    commands = site_source.command_reference()
    assert re.findall(r"^## (\S+)$", commands, re.MULTILINE) == list(COMMANDS)
    assert "--frame-input HxW" in commands
    names = re.findall(r"^::: googlenet_deploy\.\S*\.(\w+)$", site_source.api_reference(), re.MULTILINE)
    assert sorted(names) == sorted(name for name in public_names if name != "__version__")
