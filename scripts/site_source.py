"""Writes what MkDocs builds the site from: the repository's pages where they are, and the generated reference.

Pages keep their places, so that links between them work as they do in the repository. Files that a page links to are
copied with it.

    python scripts/site_source.py [--output build/site-source]
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "examples/*.md", "benchmarks/results/*.md")
STYLE = "docs/site.css"
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"")
_WIDTH = {"COLUMNS": "110"}


def copy_pages(output: Path) -> int:
    """Copies the pages and what they link to; returns the number of pages."""
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        linked = [page.parent / (first or second) for first, second in _LINK.findall(text)]
        for path in (page, *(path for path in linked if "://" not in str(path) and path.is_file())):
            target = output / path.resolve().relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copyfile(ROOT / STYLE, output / STYLE)
    return len(pages)


def command_reference() -> str:
    """Every command's ``--help``, from its parser."""
    from googlenet_deploy.cli.main import COMMANDS, command_parser  # noqa: PLC0415 - found by `sys.path` below

    parts = ["# Commands\n\nWritten from the commands' own options; each prints the same with `--help`.\n"]
    with mock.patch.dict("os.environ", _WIDTH):
        for name, command in COMMANDS.items():
            text = command_parser(name, f"googlenet-deploy {name}").format_help()
            short = f"\n\nAlso installed as `{command.aliases[0]}`." if command.aliases else ""
            parts.append(f"## {name}\n\n{command.help.capitalize()}.{short}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def api_reference() -> str:
    """The public names of the package, for mkdocstrings, from where each is defined."""
    tree = ast.parse((ROOT / "googlenet_deploy" / "__init__.py").read_text(encoding="utf-8"))
    places = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("googlenet_deploy.")
        for alias in node.names
    }
    functions, classes = (sorted(name for name in places if name[0].isupper() == upper) for upper in (False, True))
    parts = ["# Python API\n\n`import googlenet_deploy as gd`; each name is imported when it is first used.\n"]
    parts += [f"::: {places[name]}.{name}\n" for name in (*functions, *classes)]
    return "\n".join(parts)


def main() -> int:
    """Writes everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "site-source", metavar="DIR")
    output: Path = parser.parse_args().output
    shutil.rmtree(output, ignore_errors=True)
    count = copy_pages(output)
    (output / "reference").mkdir(parents=True)
    (output / "reference" / "commands.md").write_text(command_reference(), encoding="utf-8")
    (output / "reference" / "api.md").write_text(api_reference(), encoding="utf-8")
    print(f"{count} pages and the reference are in {output}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
