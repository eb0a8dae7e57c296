"""The names that `import googlenet_deploy` offers, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import googlenet_deploy

PUBLIC = {"Answer", "Classifier", "Preprocessing", "RankedClass", "__version__"}


def test_the_public_names_are_these() -> None:
    assert set(googlenet_deploy.__all__) == PUBLIC
    assert set(dir(googlenet_deploy)) == PUBLIC
    for name in PUBLIC:
        assert getattr(googlenet_deploy, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clasifier'"):
        googlenet_deploy.Clasifier  # noqa: B018 - the access is what is tested


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, googlenet_deploy; print(sorted({'numpy', 'PIL', 'torch', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_classifier_needs_no_framework() -> None:
    code = "import sys; from googlenet_deploy import Classifier; print(sorted({'torch', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
