"""Rules of the whole source tree, read from its syntax: nothing here imports what it judges."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "googlenet_deploy"
LONGEST_FILE = 450  # lines
# "googlenet_deploy.package.module:attribute", as the registries name their members; see device/registry.py.
PLACE = re.compile(rf"{PACKAGE}(\.\w+)+:\w+")
# Programs start these; nothing imports them.
ENTRY_POINTS = {f"{PACKAGE}.__main__"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, with the file; those behind the two links once."""
    found = {}
    for folder in (PACKAGE, "export", "calibration"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] in {(PACKAGE, "export"), (PACKAGE, "calibration")}:
                continue
            parts = parts if parts[0] == PACKAGE else (PACKAGE, *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def syntax(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text("utf-8"))


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    yield node
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        children = list(node.orelse)
    for child in children:
        yield from walk_at_run_time(child)


def imported(nodes: Iterator[ast.AST], known: frozenset[str]) -> set[str]:
    """The known modules that import statements name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found & known


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules of which each can be reached from each other one."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for following in graph.get(waiting.pop(), set()) - seen:
                seen.add(following)
                waiting.append(following)
        reached[start] = seen
    groups = {
        tuple(sorted(other for other in reached[start] if start in reached.get(other, set()))) for start in reached
    }
    return sorted(list(group) for group in groups if group)


def loaded_by_name() -> set[str]:
    """The modules that a table names: places of registries, commands of the program, names of the package itself."""
    found = set()
    for module in modules():
        for node in ast.walk(syntax(module)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and PLACE.fullmatch(node.value):
                found.add(node.value.partition(":")[0])
    commands = table(f"{PACKAGE}.cli.main", "COMMANDS")
    found |= {f"{PACKAGE}.cli.{key.value}" for key in commands.keys if isinstance(key, ast.Constant)}
    homes = table(PACKAGE, "_HOMES")
    return found | {f"{PACKAGE}.{value.value}" for value in homes.values if isinstance(value, ast.Constant)}


def table(module: str, name: str) -> ast.Dict:
    """The dictionary that a module assigns to a name."""
    for node in syntax(module).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert isinstance(node.value, ast.Dict)
            return node.value
    raise AssertionError(f"{module} has no {name}")


def is_package(module: str) -> bool:
    return modules()[module].name == "__init__.py"


def test_the_tree_is_seen() -> None:
    assert len(modules()) > 250
    assert {f"{PACKAGE}.export.pipeline", f"{PACKAGE}.calibration.table", f"{PACKAGE}.errors"} <= set(modules())


def test_circles_are_found_in_a_known_graph() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert circles(graph) == [["b", "c"], ["e"]]


def test_imports_for_type_checkers_are_left_out_and_those_in_functions_are_not() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n import p.a\nelse:\n import p.b\ndef f():\n from p import c, name\n")
    known = frozenset({"p", "p.a", "p.b", "p.c"})
    assert imported(walk_at_run_time(tree), known) == {"p", "p.b", "p.c"}
    assert imported(ast.walk(tree), known) == known


def test_no_import_circle() -> None:
    """Imports in functions count: they only put a circle off."""
    known = frozenset(modules())
    assert not circles({name: imported(walk_at_run_time(syntax(name)), known) - {name} for name in known})


def test_no_class_name_twice() -> None:
    homes = defaultdict(list)
    for module in modules():
        for node in syntax(module).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_every_module_has_a_reader() -> None:
    known = frozenset(modules())
    read = set(ENTRY_POINTS) | loaded_by_name()
    for name in known:
        read |= imported(ast.walk(syntax(name)), known) - {name}
    assert not sorted(name for name in known - read if not is_package(name))


def test_what_tables_name_exists() -> None:
    assert loaded_by_name() <= set(modules())
    for module in modules():
        for node in ast.walk(syntax(module)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and PLACE.fullmatch(node.value):
                home, _, attribute = node.value.partition(":")
                defined = {getattr(item, "name", None) for item in syntax(home).body}
                assert attribute in defined, f"{module} names {node.value}"


def test_no_module_only_reexports() -> None:
    """The package itself has its public names, and `export` can be called; other `__init__` have docstrings alone."""
    only = []
    for module in modules():
        body = [node for node in syntax(module).body if not _is_docstring(node)]
        if body and all(isinstance(node, ast.Import | ast.ImportFrom) or _assigns_all(node) for node in body):
            only.append(module)
        if is_package(module) and module not in (PACKAGE, f"{PACKAGE}.export"):
            assert not body, f"{module} holds code"
    assert not only


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _assigns_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]


def test_every_package_is_in_the_distribution() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(listed) == listed
    assert set(listed) == {module if is_package(module) else module.rpartition(".")[0] for module in modules()}


@pytest.mark.parametrize("folder", [PACKAGE, "export", "calibration"])
def test_no_file_is_too_long(folder: str) -> None:
    lines = {
        name: len(path.read_text("utf-8").splitlines())
        for name, path in modules().items()
        if path.relative_to(ROOT).parts[0] == folder
    }
    assert lines
    assert not {name: count for name, count in lines.items() if count > LONGEST_FILE}
