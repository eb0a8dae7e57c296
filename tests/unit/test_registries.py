"""To add a member is one new file and one line in one registry: the files that name each member are counted."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.calibration.histogram import Histogram
from googlenet_deploy.calibration.methods import METHODS, MethodEntry
from googlenet_deploy.calibration.thresholds.select import choose_threshold
from googlenet_deploy.cli.main import COMMANDS
from googlenet_deploy.device.cuda.memory import BACKENDS as CUDA_BACKENDS
from googlenet_deploy.device.power import select as power
from googlenet_deploy.device.power.meter import REGISTRY as METER_ENTRIES
from googlenet_deploy.device.power.meter import MeterEntry, NotMeasured
from googlenet_deploy.device.registry import load_member
from googlenet_deploy.device.runner import select as runner
from googlenet_deploy.device.runner.select import BackendEntry, RunnerRequest
from googlenet_deploy.device.targets.target import load_target, target_names
from googlenet_deploy.quantization.refine.registry import REFINEMENTS, RefinementEntry, need_images, refinement_steps
from googlenet_deploy.report.sections.all import SECTIONS
from googlenet_deploy.training.options import AUGMENTATIONS, AugmentationEntry
from googlenet_deploy.training.pruning.options import IMPORTANCES, MEASURES

PACKAGE = Path(__file__).parents[2] / "googlenet_deploy"
# By registry: its own file, and the places of its members.
REGISTRIES: dict[str, tuple[str, list[str]]] = {
    "threshold methods": ("calibration/methods.py", [entry.function for entry in METHODS.values()]),
    "refinements": ("quantization/refine/registry.py", [entry.function for entry in REFINEMENTS.values()]),
    "backends": ("device/runner/select.py", [entry.opener for entry in runner.REGISTRY.values()]),
    "power meters": ("device/power/meter.py", [entry.opener for entry in METER_ENTRIES.values()]),
    "CUDA": ("device/cuda/memory.py", list(CUDA_BACKENDS.values())),
    "augmentations": ("training/options.py", [entry.transform for entry in AUGMENTATIONS.values() if entry.transform]),
    "report sections": ("report/sections/all.py", list(SECTIONS)),
    "importance of channels": ("training/pruning/options.py", list(IMPORTANCES.values())),
    "sizes for pruning": ("training/pruning/options.py", list(MEASURES.values())),
}
# Members whose files other files use as well, with what they use.
ALSO_USED = {
    "googlenet_deploy.report.sections.accuracy": {"EMPTY"},
    "googlenet_deploy.quantization.refine.bias_correction": {"fit_bias", "outputs_of"},
    "googlenet_deploy.quantization.refine.activation_offset": {"shift_tensors", "biases_without_shifts"},
    # Drift watches inner tensors, which no other backend hands out.
    "googlenet_deploy.device.runner.onnxruntime_runner": {"OnnxRuntimeRunner"},
}
# Folders in which every file is a member, but for these.
FOLDERS = {
    "threshold methods": ("calibration/thresholds", "*.py", {"error.py", "select.py"}),
    "backends": ("device/runner", "*_runner.py", set()),
    "CUDA": ("device/cuda", "*.py", {"memory.py"}),
    "report sections": ("report/sections", "*.py", {"all.py"}),
}


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax of every file of the package, by its path in the package."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in LINKS]
    found = {path.relative_to(PACKAGE).as_posix(): path for path in paths}
    for link in LINKS:
        folder = PACKAGE / link
        found |= {
            f"{link}/{path.relative_to(folder.resolve()).as_posix()}": path for path in folder.resolve().rglob("*.py")
        }
    return {name: ast.parse(path.read_text("utf-8")) for name, path in found.items()}


LINKS = ("export", "calibration")


def file_of(place: str) -> str:
    return place.partition(":")[0].partition(".")[2].replace(".", "/") + ".py"


@cache
def named() -> dict[str, dict[str, set[str]]]:
    """By module and by file that names it, what it takes of it: imported names or places; "" for the module itself."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file, tree in sources().items():
        for node in ast.walk(tree):
            for module, name in _taken(node):
                found[module][file].add(name)
    return found


def _taken(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("googlenet_deploy."):
        module, _, name = node.value.partition(":")
        return [(module, name)]
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [alias.name for alias in node.names]
        return [(node.module, name) for name in names] + [(f"{node.module}.{name}", "") for name in names]
    return [(alias.name, "") for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_members_file_is_named_by_its_registry_alone(name: str) -> None:
    home, places = REGISTRIES[name]
    assert len(places) >= 2
    assert len(set(places)) == len(places) or name == "backends"  # one function opens several of those
    for module in {place.partition(":")[0] for place in places}:
        taken = named()[module]
        assert home in taken, f"{module} is not in {home}"
        beside = {
            file: names - ALSO_USED.get(module, set())
            for file, names in taken.items()
            if file not in (home, file_of(module))
        }
        assert not {file: names for file, names in beside.items() if names}, f"{module} is named beside {home}"


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_member_can_be_loaded(name: str) -> None:
    for place in REGISTRIES[name][1]:
        if "cuda.pycuda" not in place and "cuda.bindings" not in place:
            assert callable(load_member(place))


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_of_the_folder_is_a_member(name: str) -> None:
    folder, pattern, helpers = FOLDERS[name]
    present = {path.name for path in (PACKAGE / folder).glob(pattern)} - {"__init__.py"}
    assert present - helpers == {Path(file_of(place)).name for place in REGISTRIES[name][1]}
    assert helpers <= present


def test_a_module_is_its_profile_alone() -> None:
    """Nothing in the code names a Jetson module: its file is its only place."""
    assert target_names() == sorted(path.stem for path in (PACKAGE / "device/targets").glob("*.toml"))
    for name in target_names():
        assert load_target(name).module is not None


def test_every_command_has_a_file_with_its_two_functions() -> None:
    for name in COMMANDS:
        functions = {node.name for node in sources()[f"cli/{name}.py"].body if isinstance(node, ast.FunctionDef)}
        assert {"add_arguments", "run"} <= functions


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module that a registry can name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_one_file_and_one_line_make_a_threshold_method(
    new_file: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file("added_method", "def half(histogram):\n    return histogram.amax / 2\n")
    monkeypatch.setitem(METHODS, "half", MethodEntry("added_method:half"))
    folds = [Histogram(), Histogram()]
    for seed, fold in enumerate(folds):
        fold.add(np.random.default_rng(seed).uniform(0, 8, 5000).astype(np.float32))
    choice = choose_threshold(folds)
    assert choice.amax["half"] == choice.amax["max"] / 2
    assert choice.decibels["half"] < choice.decibels["max"]


def test_one_file_and_one_line_make_a_refinement(
    new_file: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file("added_step", "def refine(model, *, threads=None, quiet=False):\n    return threads, quiet\n")
    monkeypatch.setitem(REFINEMENTS, "added", RefinementEntry("added_step:refine", learns=True))
    before, after = refinement_steps(["added"], threads=3, quiet=True)
    assert not before
    assert after[0](None) == (3, True)  # type: ignore[arg-type, call-arg, comparison-overlap]
    assert need_images(["added"])
    assert not need_images(["offset"])


def test_one_file_and_one_line_make_a_power_meter(
    new_file: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new_file(
        "added_meter",
        "from googlenet_deploy.device.power.meter import NotMeasured\n"
        "def open_it(rails, root):\n    return NotMeasured('no shunt', ','.join(rails))\n",
    )
    monkeypatch.setitem(METER_ENTRIES, "shunt", MeterEntry("added_meter:open_it", "CPU"))
    assert power.open_meter("shunt", rails=("A", "B"), root=tmp_path) == NotMeasured("no shunt", "A,B")
    automatic = power.open_meter("auto", "CPU", root=tmp_path)
    assert isinstance(automatic, NotMeasured)
    assert automatic.reason.endswith("; no shunt")


def test_one_file_and_one_line_make_a_backend(
    new_file: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file("added_backend", "def open_it(request):\n    return request\n")
    monkeypatch.setitem(runner.REGISTRY, "added", BackendEntry("added_backend:open_it", engines=True))
    monkeypatch.setattr(runner, "BACKENDS", ("auto", *runner.REGISTRY))
    opened = runner.open_runner("model.engine", "added", threads=2, batch=5)
    assert isinstance(opened, RunnerRequest)
    assert (opened.path, opened.backend, opened.threads, opened.batch) == ("model.engine", "added", 2, 5)


def test_one_file_and_one_line_make_an_augmentation(
    new_file: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from googlenet_deploy.device.specification import TORCHVISION
    from googlenet_deploy.training.data.augmentation import RANDOM_NUMBERS, BatchTransform

    new_file(
        "added_augmentation",
        "from torch import nn\nclass Black(nn.Module):\n    def forward(self, x, numbers):\n        return 0 * x\n",
    )
    monkeypatch.setitem(AUGMENTATIONS, "black", AugmentationEntry("nothing to see", "added_augmentation:Black"))
    white = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    made = BatchTransform(TORCHVISION, "black")(white, torch.zeros(2, RANDOM_NUMBERS))
    expected = -torch.tensor(TORCHVISION.mean) / torch.tensor(TORCHVISION.std)
    torch.testing.assert_close(made, expected.view(1, 3, 1, 1).expand(2, 3, 4, 4))
