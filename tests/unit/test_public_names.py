"""The names that `import googlenet_deploy` offers, their signatures, and what importing them costs.

A change here is a change for those who call them: see CONTRIBUTING.md on versions.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import googlenet_deploy
from googlenet_deploy.errors import UsageError

TYPES = {
    "Answer",
    "BuiltEngine",
    "CalibrationResult",
    "Classifier",
    "Deployment",
    "Estimate",
    "EvaluationReport",
    "ExportResult",
    "Preprocessing",
    "QuantizationResult",
    "RankedClass",
    "Tuned",
}
OPTIONS = {
    "BenchmarkOptions",
    "BudgetOptions",
    "BuildOptions",
    "CacheOptions",
    "CalibrationOptions",
    "CheckOptions",
    "DeployConfig",
    "ExportOptions",
    "FrameOptions",
    "GpuOptions",
    "PreprocessingOptions",
    "RunnerOptions",
    "ServeOptions",
    "TuneOptions",
}
# Parameters by function; a star for those that are keywords alone, and = for those with a default.
FUNCTIONS = {
    "benchmark": "model * images= options= running= gpu= preprocessing= image_backend= quiet= report=",
    "build": "model output= * options= backend= target= require= rebuild= quiet= report=",
    "calibrate": "model images= output= * count= seed= options= preprocessing= cache= report=",
    "deploy": "config say= * quiet= steps=",
    "estimate": "path target batch= precision=",
    "evaluate": "model images * labels= reference= class_names= layers= host= limit= running= frames= preprocessing= "
    "quiet= report=",
    "export": "weights= output= * module= module_args= onnx= weights_key= num_classes= class_names= preprocessing= "
    "options= target= half= keep_fp32= host= images= image_count= report= say=",
    "load_weights": "source * auxiliary= num_classes= key=",
    "quantize": "model output= * images= table= count= seed= refine= target= placement= weights= calibration= budget= "
    "check= class_names= preprocessing= save_table= cache= enforce= report=",
    "serve": "model *sources * address= options= running= frames= gpu= preprocessing= class_names= top_k= reconnect= "
    "stop= report=",
    "tune": "places output= * images= reference= options= gpu= preprocessing= image_backend= seed= power= power_rails= "
    "stop= report=",
}
WORKSTATION = {"BudgetOptions", "CacheOptions", "CalibrationOptions", "CheckOptions", "DeployConfig", "ExportOptions"}
DEVICE = sorted({"Classifier", "benchmark", "build", "serve", "tune", *OPTIONS} - WORKSTATION)


def shape_of(function: object) -> str:
    """A signature as in `FUNCTIONS`."""
    words, keywords = [], False
    for item in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if item.kind is item.KEYWORD_ONLY and not keywords:
            keywords = True
            words.append("*")
        star = "*" if item.kind is item.VAR_POSITIONAL else ""
        words.append(f"{star}{item.name}{'' if item.default is item.empty else '='}")
    return " ".join(words)


def function_of(name: str) -> object:
    """The function; `export` is the package of that name, which can be called."""
    found = getattr(googlenet_deploy, name)
    return import_module("googlenet_deploy.export.export_model").export if inspect.ismodule(found) else found


def test_export_is_the_same_whatever_was_imported_before() -> None:
    import googlenet_deploy.export.options

    assert callable(googlenet_deploy.export)
    assert googlenet_deploy.export is import_module("googlenet_deploy.export")
    with pytest.raises(UsageError, match="pass one source"):
        googlenet_deploy.export()


def test_the_public_names_are_these() -> None:
    names = {*TYPES, *OPTIONS, *FUNCTIONS, "__version__"}
    assert set(googlenet_deploy.__all__) == names
    assert set(dir(googlenet_deploy)) == names
    assert googlenet_deploy.__all__ == sorted(names)
    for name in names:
        assert getattr(googlenet_deploy, name) is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_stay_as_they_are(name: str) -> None:
    assert shape_of(getattr(googlenet_deploy, name)) == FUNCTIONS[name]


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *TYPES, *OPTIONS}))
def test_everything_is_documented(name: str) -> None:
    text = inspect.getdoc(function_of(name) if name in FUNCTIONS else getattr(googlenet_deploy, name))
    assert text
    if name in FUNCTIONS:
        for parameter in FUNCTIONS[name].replace("*", "").replace("=", "").split():
            assert f"{parameter}:" in text, f"{name} does not describe {parameter}"
        assert "Raises:" in text


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clasifier'"):
        googlenet_deploy.Clasifier  # noqa: B018 - the access is what is tested


def imported_by(code: str, *packages: str) -> list[str]:
    """Which of the packages are imported after this code has run in a process of its own."""
    program = f"import sys\n{code}\nprint(*sorted({set(packages)!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import googlenet_deploy", "numpy", "PIL", "torch", "onnx") == []


def test_what_a_device_uses_needs_no_framework() -> None:
    assert imported_by(f"from googlenet_deploy import {', '.join(DEVICE)}", "torch", "onnx", "onnxruntime") == []
