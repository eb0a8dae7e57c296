from __future__ import annotations

import pickle

import pytest

from googlenet_deploy import errors
from googlenet_deploy.errors import (
    BadImageError,
    GateError,
    GoogLeNetDeployError,
    MissingExtraError,
    OutputError,
    UsageError,
    install_command,
    requires,
)


def test_exit_statuses_are_those_of_the_documentation() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    ours = {value for value in classes if issubclass(value, GoogLeNetDeployError)}
    assert len(ours) > 10
    for value in ours:
        expected = 2 if issubclass(value, UsageError) else 3 if issubclass(value, GateError) else 1
        assert value.exit_status == expected, value


def test_errors_of_files_name_the_file_and_keep_problem_and_remedy_apart() -> None:
    error = BadImageError("a/b.jpg", "is empty", "take another")
    assert str(error) == error.message == "a/b.jpg: is empty"
    assert (error.path, error.problem, error.remedy) == ("a/b.jpg", "is empty", "take another")
    assert OutputError("x", "is full").remedy is None


@pytest.mark.parametrize("module", ["package_that_is_nowhere", "package_that_is_nowhere.part"])
def test_a_missing_package_names_the_command_that_installs_it(module: str) -> None:
    with pytest.raises(MissingExtraError) as caught, requires("export"):
        __import__(module)
    assert "'package_that_is_nowhere'" in caught.value.message
    assert caught.value.remedy == "pip install 'googlenet-deploy[export]'"
    assert isinstance(caught.value, ImportError)  # so that pkgutil and importlib treat it as one


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("runtime", "pip install onnxruntime"),
        ("export", "this is done on a workstation, with the whole of googlenet-deploy"),
    ],
)
def test_what_travels_alone_names_packages(extra: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "__file__", "/nowhere/googlenet-device.pyz/googlenet_deploy/errors.py")
    assert install_command(extra) == command


def test_the_innermost_extra_is_the_one_that_is_named() -> None:
    with pytest.raises(MissingExtraError) as caught, requires("export"), requires("runtime"):
        __import__("package_that_is_nowhere")
    assert caught.value.extra == "runtime"


def test_requires_leaves_other_errors_and_working_imports_alone() -> None:
    with requires("export"):
        import json
    assert json
    with pytest.raises(ZeroDivisionError), requires("export"):
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    "error",
    [
        GoogLeNetDeployError("it failed", "do this"),
        UsageError("wrong"),
        BadImageError("a/b.jpg", "is empty", "take another"),
        MissingExtraError("onnx", "export"),
    ],
)
def test_an_error_survives_the_way_from_another_process(error: GoogLeNetDeployError) -> None:
    error.remedy = "a remedy that was added later"
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert there.args == error.args
    assert vars(there) == vars(error)
