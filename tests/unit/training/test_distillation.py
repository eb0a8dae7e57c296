"""Learning from another network: the loss by hand, whose scores are compared, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.data.dataset import TrainingData
from googlenet_deploy.training.data.mixup import Targets
from googlenet_deploy.training.distillation import (
    POINTS,
    ImitationLoss,
    Teacher,
    attention,
    load_teacher,
    relative_error,
)
from googlenet_deploy.training.network import build_network
from googlenet_deploy.training.options import TrainingOptions

GREY = Preprocessing(resize=40, crop=(40, 40), mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.75))


def net(name: str, classes: int = 3, *, width: float = 0.125, auxiliary: bool = False, seed: int = 0) -> GoogLeNet:
    torch.manual_seed(seed)
    return GoogLeNet(ARCHITECTURES[name], classes, width=width, auxiliary=auxiliary)


def log_error(values: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(torch.log(((values - wanted) ** 2).sum() / (wanted**2).sum() + 0.01))


def test_the_loss_of_a_narrower_student_by_hand() -> None:
    """Scores by their relative error, modules by maps of attention, labels and auxiliary classifiers as always."""
    student, teacher = net("plain", auxiliary=True), net("plain", width=0.25, seed=1).eval()
    student.dropout.p = student.aux1.dropout.p = student.aux2.dropout.p = 0.0
    loss = ImitationLoss(student, Teacher(teacher), 0.25, 0.1, auxiliary_weight=0.3)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 2])
    outputs = student.train()(x)
    found = loss(outputs, x, Targets(labels)).item()

    inside = []
    with torch.no_grad():
        for point in POINTS:
            maps = []
            for model in (student, teacher):
                noted: list[torch.Tensor] = []
                hook = model.get_submodule(point).register_forward_hook(lambda _m, _i, o, noted=noted: noted.append(o))
                model(x)
                hook.remove()
                energy = noted[0].square().mean(dim=1).flatten(1)
                maps.append(energy / energy.norm(dim=1, keepdim=True))
            inside.append(log_error(*maps))
        scores = log_error(outputs.logits, teacher(x))
        main, *heads = (float(functional.cross_entropy(part, labels, label_smoothing=0.1)) for part in outputs)
    assert found == pytest.approx(0.75 * (main + 0.3 * sum(heads)) + 0.25 * (scores + np.mean(inside)), rel=1e-4)


def test_modules_of_equal_channels_are_compared_value_by_value() -> None:
    student, teacher = net("plain"), net("plain", seed=1).eval()
    loss = ImitationLoss(student, Teacher(teacher), 1.0, 0.0)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    student.dropout.p = 0.0
    found = loss(student.train()(x), x, Targets(torch.tensor([0]))).item()
    given, wanted = {}, {}
    for model, kept in ((student, given), (teacher, wanted)):
        for point in POINTS:
            model.get_submodule(point).register_forward_hook(lambda _m, _i, o, k=point, kept=kept: kept.update({k: o}))
    with torch.no_grad():
        ours, theirs = student(x), teacher(x)
        inside = [log_error(given[point], wanted[point]) for point in POINTS]
    assert found == pytest.approx(log_error(ours, theirs) + np.mean(inside), rel=1e-4)
    assert float(relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0]))) == pytest.approx(16 / 9)


def test_attention_of_other_sizes_is_brought_to_the_smaller() -> None:
    x = torch.zeros(1, 2, 4, 4)
    x[0, :, :2, :2] = 2.0
    found = attention(x, (2, 2))
    assert found.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def save(path: Path, model: GoogLeNet, spec: Preprocessing, names: tuple[str, ...]) -> str:
    save_checkpoint(path, Checkpoint(model, model.architecture, spec, class_names=names))
    return str(path)


def test_the_teacher_sees_the_same_pixels_prepared_as_it_wants_them(tmp_path: Path) -> None:
    teacher = net("bvlc", 4)
    source = save(tmp_path / "t.safetensors", teacher, BVLC, ("z", "b", "a", "c"))
    data = TrainingData(Path(), ("a", "b", "c"))
    network = build_network(TrainingOptions(width=0.125, input_size=224), data)
    found = load_teacher(source, network, data)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    ours, theirs = (torch.from_numpy(normalize(pixels, spec))[None] for spec in (network.preprocessing, BVLC))
    torch.testing.assert_close(found.prepare(ours), theirs, rtol=1e-4, atol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(found.logits(ours), teacher.eval()(theirs)[:, [2, 1, 3]], rtol=1e-3, atol=1e-4)
    assert len(found.sha256) == 64
    assert not any(parameter.requires_grad for parameter in found.model.parameters())


def test_a_teacher_of_another_input_size_gets_its_own(tmp_path: Path) -> None:
    source = save(tmp_path / "t.safetensors", net("torchvision", 2), GREY, ("a", "b"))
    data = TrainingData(Path(), ("a", "b"))
    network = build_network(TrainingOptions(width=0.125, input_size=64, augmentation="none"), data)
    white = torch.ones(1, 3, 64, 64)  # with mean and standard deviation 0.5
    prepared = load_teacher(source, network, data).prepare(white)
    assert prepared.shape == (1, 3, 40, 40)
    for channel, (mean, std) in enumerate(zip(GREY.mean, GREY.std, strict=True)):
        assert float(prepared[0, channel].mean()) == pytest.approx((1.0 - mean) / std, rel=1e-4)


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("a", "x"), ("a", "b"), "does not know these classes: b"),
        ((), ("a", "b", "c"), "has 2 classes without names, the data has 3"),
        (("a", "b"), ("a", "A"), "does not know these classes"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(
    tmp_path: Path, names: tuple[str, ...], classes: tuple[str, ...], message: str
) -> None:
    source = save(tmp_path / "t.safetensors", net("torchvision", 2), GREY, names)
    data = TrainingData(Path(), classes)
    network = build_network(TrainingOptions(width=0.125, input_size=40), data)
    with pytest.raises(UsageError, match=message):
        load_teacher(source, network, data)


def test_a_teacher_in_colour_has_nothing_to_say_to_a_network_in_grey(tmp_path: Path) -> None:
    luminance = Preprocessing(resize=40, crop=(40, 40), channels="L", mean=(0.5,), std=(0.5,))
    model = GoogLeNet(ARCHITECTURES["plain"], 2, width=0.125, in_channels=1)
    source = save(tmp_path / "t.safetensors", model, luminance, ("a", "b"))
    data = TrainingData(Path(), ("a", "b"))
    with pytest.raises(UsageError, match="one network takes images in colour, the other in grey"):
        load_teacher(source, build_network(TrainingOptions(width=0.125, input_size=40), data), data)


def test_a_network_that_is_named_is_imitated() -> None:
    with pytest.raises(UsageError, match="--distill-from is not imitated with --distillation 0"):
        TrainingOptions(distill_from="w.safetensors", distillation=0.0)
