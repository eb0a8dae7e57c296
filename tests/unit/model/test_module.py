"""Any PyTorch classifier by its file and callable: what is loaded, what is refused, and that the export is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadWeightsError, GoogLeNetDeployError, UsageError
from googlenet_deploy.model.module import ModuleRequest, find_callable, load_module, parse_arguments

SPEC = Preprocessing(resize=32, crop=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
OPTIONS = ["--crop", "32", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
NETWORK = """
import torch
from torch import nn
from torch.nn import functional

class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.down(x))

class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.layer1 = nn.Sequential(Block(3, width, 2), Block(width, width, 2))
        self.norm = nn.LocalResponseNorm(3, alpha=0.5)
        self.head = nn.Linear(width, num_classes)
        self.aux = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.norm(self.layer1(x)).mean((2, 3))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "net.py"
        path.write_text(text)
        return path

    return write


def load(place: str, arguments: str = "", weights: Path | None = None, spec: Preprocessing = SPEC) -> Any:
    return load_module(ModuleRequest(place, arguments, str(weights) if weights else None), lambda _: spec)


def test_arguments_are_literals_or_text() -> None:
    assert parse_arguments("resnet18, num_classes=10,layers=[2, (3, 4)],name='a,b',path=x/y-1.pth,flag=True") == (
        ["resnet18"],
        {"num_classes": 10, "layers": [2, (3, 4)], "name": "a,b", "path": "x/y-1.pth", "flag": True},
    )
    assert parse_arguments("") == ([], {})
    for text in ("a=1,2", "a=1,a=2"):
        with pytest.raises(UsageError):
            parse_arguments(text)


def test_the_export_computes_what_the_module_does(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Fresh statistics in every BatchNorm, a checkpoint with a prefix in half precision, and names of the module."""
    path = write(NETWORK)
    torch.manual_seed(4)
    model = find_callable(f"{path}:Net")(5, width=16).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    state = {
        f"module.{name}": value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    output = tmp_path / "m.onnx"
    command = ["export", "--module", f"{path}:Net", "--module-args", "num_classes=5,width=16", *OPTIONS, "--quiet"]
    assert main([*command, "--weights", str(tmp_path / "w.pth"), "--output", str(output)]) == 0
    exported = onnx.load(output)
    nodes = {node.name: node for node in exported.graph.node}
    assert {"layer1/0/conv1", "layer1/0/relu", "layer1/1/conv2", "norm", "head"} <= set(nodes)
    assert nodes["norm"].op_type == "LRN"
    assert list(nodes["layer1/0/conv1"].input)[1:] == ["layer1/0/conv1/weight", "layer1/0/conv1/bias"]
    assert "BatchNormalization" not in {node.op_type for node in exported.graph.node}
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(session.run(None, {"input": images})[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "place", "arguments", "words"),
    [
        ("import nothing_of_that_name", "Net", "", r"net\.py: fails on import: ModuleNotFoundError.*\(line 1\)"),
        ("def f(:", "Net", "", r"net\.py: fails on import: SyntaxError"),
        ("raise SystemExit(3)", "Net", "", r"fails on import: SystemExit"),
        (
            "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E",
            "Net",
            "",
            r"fails on import: E \(line 3\)",
        ),
        ("def f(): f()\nf()", "Net", "", "fails on import: RecursionError"),
        ("a = 1\x00", "Net", "", "fails on import: (SyntaxError|ValueError)"),  # Python 3.11.4 changed it
        (NETWORK, "Nett", "num_classes=2", "no Nett in .*; it has Block, Net"),
        (NETWORK, "Net", "", "missing a required argument: 'num_classes'; it accepts"),
        (NETWORK, "Net", "num_classes=2,depth=3", "unexpected keyword argument 'depth'"),
        (NETWORK, "Net", "num_classes='x'", "calling it fails: "),
        ("def make(): return 5", "make", "", "returns an int, not a torch.nn.Module"),
        (
            "from torch import nn\ndef make(): return nn.ReLU",
            "make",
            "",
            "returns the class ReLU, not a torch.nn.Module",
        ),
        ("from torch import nn\ndef make(): return nn.ReLU().state_dict()", "make", "", "returns an OrderedDict, not"),
        ("def make(*, width): return 5", "make", "", r"missing a required argument: 'width'; it accepts \(\*, width\)"),
        ("Net = 5", "Net", "", "cannot be called"),
    ],
)
def test_modules_that_cannot_be_made(
    text: str, place: str, arguments: str, words: str, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(text)
    with pytest.raises(GoogLeNetDeployError, match=words) as caught:
        load(f"{path}:{place}", arguments)
    assert "\n" not in caught.value.message
    status = main(
        ["export", "--module", f"{path}:{place}", "--module-args", arguments, *OPTIONS, "--output", "/tmp/x.onnx"]
    )
    assert status in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def forward(body: str, arguments: str = "self, x") -> str:
    return (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(3, 4)\n"
        f"    def forward({arguments}):\n        y = self.fc(x.mean((2, 3)))\n        {body}\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (forward("return y", "self, x, mask"), r"accepts 2 inputs \(x, mask\)"),
        (forward("return y, y"), "returns a tuple of 2"),
        (forward("return {'logits': y}"), "returns a dict with logits"),
        (forward("return y[:, :, None, None]"), r"returns torch.float32 \(2, 4, 1, 1\)"),
        (forward("return y.argmax(1)"), "returns torch.int64"),
        (forward("return y[:, :1]"), r"\(2, 1\)"),
        (forward("return y.half()"), "returns torch.float16"),
        (forward("return y.to_sparse()"), "returns torch.sparse_coo torch.float32"),
        (forward("return y.flatten()"), r"returns torch.float32 \(8,\)"),
        (forward("return y.numpy()"), "returns a ndarray"),
        (forward("return y", "self, x, *, mask"), r"accepts 2 inputs \(x, mask\)"),
        (forward("return y - y.mean(0)"), "other scores if there are more images in the batch"),
        (forward("return y * len(x)"), "other scores if there are more images in the batch"),
        (forward("return y.reshape(2, 4)"), r"does not run on float32 \(3, 3, 32, 32\)"),
        (forward("return nn.functional.dropout(y)"), "other scores each time"),
        (forward("return y / 0"), "none that are finite"),
        (forward("raise ValueError('no\\nway')"), r"does not run on float32 \(2, 3, 32, 32\): ValueError: no way"),
    ],
)
def test_models_that_are_no_classifiers_of_images(text: str, words: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(GoogLeNetDeployError, match=words):
        load(f"{write(text)}:Net")


@pytest.mark.parametrize("condition", ["y.sum() > 0", "bool((y > 0).any())"])
def test_a_forward_that_branches_on_values_is_refused(
    condition: str, write: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(forward(f"return y if {condition} else -y"))
    output = tmp_path / "m.onnx"
    assert main(["export", "--module", f"{path}:Net", *OPTIONS, "--output", str(output), "--quiet"]) == 1
    assert "branches on the values of tensors" in capsys.readouterr().err
    assert not output.exists()


def test_a_module_in_half_precision_is_converted_and_that_is_said(write: Callable[[str], Path]) -> None:
    loaded = load(f"{write(forward('return y') + 'def make(): return Net().bfloat16()')}:make")
    assert loaded.notes[0] == "weights are stored as bfloat16 and were converted to float32"
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}


def test_a_file_given_to_the_callable_is_no_name(write: Callable[[str], Path]) -> None:
    path = write(forward("return y") + "def make(first): return Net()")
    assert [load(f"{path}:make", first).name for first in ("resnet18", str(path))] == ["resnet18", "Net"]


def test_a_checkpoint_of_another_class_count(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write(NETWORK)
    torch.save(find_callable(f"{path}:Net")(7).state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadWeightsError, match=r"another class count: .*has 7 classes, the model 3") as caught:
        load(f"{path}:Net", "num_classes=3", tmp_path / "w.pth")
    assert "num_classes=7" in (caught.value.remedy or "")


def test_a_checkpoint_of_another_network(write: Callable[[str], Path], tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(BadWeightsError, match=r"no tensor of Net: it contains features\.0\.weight"):
        load(f"{write(NETWORK)}:Net", "num_classes=3", tmp_path / "w.pth")


def test_the_preprocessing_of_timm_and_torchvision(write: Callable[[str], Path]) -> None:
    seen: list[Preprocessing | None] = []

    def choose(declared: Preprocessing | None) -> Preprocessing:
        seen.append(declared)
        return SPEC

    config = {
        "input_size": (3, 32, 32),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.1, 0.2, 0.3),
        "std": (1, 1, 2),
    }
    made = f"def make():\n    net = Net()\n    net.pretrained_cfg = {config}\n    return net\n"
    load_module(ModuleRequest(f"{write(forward('return y') + made)}:make"), choose)
    preset = (
        "class P:\n    crop_size, resize_size, interpolation = [24], [28], 'bilinear'\n"
        "    mean, std = (0.5,) * 3, (0.2,) * 3\n"
        "def make():\n    net = Net()\n    net.transforms = P\n    return net\n"
    )
    load_module(ModuleRequest(f"{write(forward('return y') + preset)}:make"), choose)
    load_module(ModuleRequest(f"{write(forward('return y'))}:Net"), choose)
    assert seen == [
        # 32 / 0.9 = 35.6, which timm rounds down.
        Preprocessing(resize=35, crop=(32, 32), interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 2.0)),
        Preprocessing(resize=28, crop=(24, 24), mean=(0.5,) * 3, std=(0.2,) * 3),
        None,
    ]


def test_without_a_preprocessing_the_options_are_asked_for(
    write: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(forward("return y"))
    assert main(["export", "--module", f"{path}:Net", "--output", str(tmp_path / "m.onnx"), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert "does not state how its images are prepared" in message
    assert "--preprocessing" in message


def test_an_infinite_mask_of_the_users_is_no_damage(tmp_path: Path) -> None:
    text = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(3, 2)\n"
        "        self.register_buffer('mask', torch.tensor([0.0, float('-inf')]))\n"
        "    def forward(self, x): return self.fc(x.mean((2, 3))) + self.mask.clamp(min=-9)\n"
    )
    (tmp_path / "net.py").write_text(text)
    state = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2), "mask": torch.tensor([0.0, -torch.inf])}
    torch.save(state, tmp_path / "net.pth")
    request = ModuleRequest(f"{tmp_path / 'net.py'}:Net", "", str(tmp_path / "net.pth"), None, None)
    assert load_module(request, lambda _: Preprocessing()).num_classes == 2
    state["mask"][0] = torch.nan
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(BadWeightsError, match="not finite in tensor mask"):
        load_module(request, lambda _: Preprocessing())
