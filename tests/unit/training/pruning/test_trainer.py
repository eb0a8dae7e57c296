"""Training that prunes: widths fall by the plan, interrupted runs end alike, damaged states are refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadWeightsError, UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.data.batches import ImageFeed, validation_batches
from googlenet_deploy.training.data.dataset import TrainingData
from googlenet_deploy.training.data.folders import read_folders
from googlenet_deploy.training.data.image_cache import ImageStore, centre
from googlenet_deploy.training.data.pools import Workers
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.loop import RunControl
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.pruning.options import PruningOptions
from googlenet_deploy.training.pruning.task import pruning_task
from googlenet_deploy.training.pruning.trainer import PruningTrainer
from googlenet_deploy.training.resume_state import capture_state, load_state, restore_state, save_state
from googlenet_deploy.training.validation import Validator

DATA = TrainingData(Path(), ("a", "b"))
ALONE = Processes(0, 1, torch.device("cpu"))
RECORD = {
    "options": {"architecture": "plain", "learning_rate": 0.1, "epochs": 3, "device": "cpu"},
    "weights_sha256": "",
    "data": {"sha256": "00"},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(0)
    model = GoogLeNet(ARCHITECTURES["torchvision"], 2, width=0.25)
    save_checkpoint(path, Checkpoint(model, model.architecture, BVLC, class_names=("a", "b")))
    return str(path)


@pytest.fixture
def make(tmp_path: Path, make_folder: Any, weights: str) -> Any:
    """Makes pruning trainers of a net of a quarter of the width on two colours; 8 images to learn from."""
    data = read_folders(make_folder(tmp_path / "colours", {"a": 6, "b": 6}), None, validation_share=0.3, seed=0)

    def trainer(epochs: int = 3, **pruning: Any) -> PruningTrainer:
        options = TrainingOptions(
            weights=weights, input_size=32, augmentation="none", batch_size=4, epochs=epochs, auxiliary_weight=0.0,
            pruning=PruningOptions(**{"share": 0.4, "rounding": 8, "steps": 2, **pruning}),
        )  # fmt: skip
        task = pruning_task(options, data)
        spec = task.network.preprocessing
        stores = [
            ImageStore(part, spec, centre, budget=10**9, workers=Workers(1), quiet=True)
            for part in (data.train, data.validation)
        ]
        assert task.trainer is not None
        made: Any = task.trainer(
            task.network,
            ImageFeed(stores[0], task.network.options, 4, Workers(1)),
            Validator(partial(validation_batches, stores[1], 3, Workers(1)), spec, 2, processes=ALONE),
            decay=0.9,
            processes=ALONE,
            criterion=task.criterion,
            quiet=True,
        )
        return made  # type: ignore[no-any-return]

    return trainer


class Notes(RunControl):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_the_network_shrinks_step_by_step_to_the_share(make: Any, importance: str) -> None:
    trainer, notes = make(importance=importance), Notes()
    pruning = trainer.pruning
    before = pruning.measure(pruning.unpruned)
    left = []
    for _ in trainer.epochs(notes):
        left.append(pruning.measure(trainer.model.widths) / before)
        assert trainer.averaged_model.widths == trainer.model.widths
    assert 0.6**0.5 - 0.05 < left[0] <= 0.6**0.5
    assert 0.55 < left[1] <= 0.6
    assert left[2] == left[1]
    headings = [line.partition(":")[0] for line in notes.lines]
    assert headings == ["unpruned", "pruning step 1 of 2", "pruning step 2 of 2"]
    changed = {n: c for n, c in trainer.model.widths.channels.items() if c != pruning.unpruned.channels[n]}
    assert changed
    assert all(count % 8 == 0 for count in changed.values())
    assert {name: len(channels) for name, channels in pruning.kept.items()} == trainer.model.widths.channels


def test_what_is_left_is_compared_with_the_same_channels_of_the_unpruned_network(make: Any, weights: str) -> None:
    """Before anything is learnt every conv3 channel that is left is the teacher's, but for the inputs it lost."""
    trainer = make(share=0.02, steps=1, epochs=1)
    trainer.before_epoch(RunControl())
    teacher, pruned = trainer.criterion.teacher, trainer.model
    channels = teacher.channels()
    for key, path in (
        ("inception5b.conv1x1", "inception5b.branch1"),
        ("inception3a.pool_proj", "inception3a.branch4.1"),
    ):
        kept = trainer.pruning.kept[key]
        ours = pruned.get_submodule(path).bn.weight
        theirs = teacher.model.get_submodule(path).bn.weight[kept]
        assert torch.equal(ours, theirs)
    widths = trainer.pruning.unpruned.modules["inception3a"]
    pool = trainer.pruning.kept["inception3a.pool_proj"] + widths.conv1x1 + widths.conv3x3 + widths.conv5x5
    assert channels["inception3a"][-len(pool) :].tolist() == pool.tolist()
    assert {name: len(part) for name, part in channels.items()} == {
        "conv3": pruned.widths.channels["conv3"],
        **{name: branches.out_channels for name, branches in pruned.widths.modules.items()},
    }


def test_a_run_that_goes_on_ends_with_the_same_network(make: Any, tmp_path: Path) -> None:
    whole = make(epochs=2)
    results = whole.epochs()
    next(results)
    state = tmp_path / "s.safetensors"
    save_state(state, capture_state(whole, None, record=RECORD, classes=["a", "b"], log=0))
    list(results)
    second = make(epochs=2)
    restore_state(state, load_state(state), second)
    assert second.epoch == 2
    list(second.epochs())
    assert second.model.widths == whole.model.widths
    ours, theirs = second.averaged_model.state_dict(), whole.averaged_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_damaged_states_are_refused(make: Any, tmp_path: Path) -> None:
    once = {"steps": 1, "epochs": 1, "importance": "magnitude"}
    trainer, state = make(**once), tmp_path / "s.safetensors"
    trainer.before_epoch(RunControl())
    captured = capture_state(trainer, None, record=RECORD, classes=["a", "b"], log=0)
    key = "kept.inception5b.conv1x1"
    channels = captured.tensors[key]
    second = make(**once)
    for damaged in (None, channels.flip(0), channels + 96, channels.float(), channels[None], channels[:-1]):
        tensors = {name: tensor for name, tensor in captured.tensors.items() if name != key}
        if damaged is not None:
            tensors[key] = damaged
        save_state(state, type(captured)(tensors, captured.values))
        with pytest.raises(BadWeightsError, match=r"damaged training state|does not fit this network"):
            restore_state(state, load_state(state), second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": None}, "--prune prunes a trained network: pass its --weights"),
        ({"freeze": "conv2"}, "--prune and --freeze exclude each other"),
        ({"sparsity": "2:4"}, "--prune and --sparsity 2:4 exclude each other"),
        ({"reset_classifier": True}, "was trained on other classes"),
        ({"pruning": PruningOptions(share=0.99)}, "--prune 0.99: with 16 channels"),
        ({"pruning": PruningOptions(share=0.5, rounding=128)}, "no layer has more than 128 channels"),
        ({"pruning": PruningOptions(share=0.5, target="orim")}, "unknown target 'orim'"),
    ],
)
def test_what_cannot_be_pruned_is_refused(weights: str, options: dict[str, Any], message: str) -> None:
    given = {"weights": weights, "input_size": 32, "pruning": PruningOptions(), **options}
    with pytest.raises(UsageError, match=message):
        pruning_task(TrainingOptions(**given), DATA)


def test_other_classes_are_not_pruned_for(weights: str) -> None:
    options = TrainingOptions(weights=weights, input_size=32, pruning=PruningOptions())
    with pytest.raises(UsageError, match="was trained on other classes"):
        pruning_task(options, TrainingData(Path(), ("a", "c")))


def test_channels_for_int8_come_in_multiples_of_32(weights: str) -> None:
    roundings, rates = {}, set()
    for target in (None, "nano", "orin-nano"):
        options = TrainingOptions(
            weights=weights, input_size=32, pruning=PruningOptions(share=0.02, target=target), epochs=4
        )
        task = pruning_task(options, DATA)
        assert task.trainer is not None
        rates.add(task.network.options.learning_rate)
        roundings[target] = task.trainer.keywords["pruning"].rounding  # type: ignore[attr-defined]
    assert roundings == {None: 16, "nano": 16, "orin-nano": 32}
    assert rates == {0.4 * 0.05}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0.0}, "--prune must be above 0 and below 1"),
        ({"share": 1.0}, "--prune must be above 0 and below 1"),
        ({"share": float("nan")}, "--prune must be"),
        ({"by": "watts"}, "--prune-by is 'watts'"),
        ({"importance": "luck"}, "--prune-importance is 'luck'"),
        ({"steps": 0}, "--prune-steps must be"),
        ({"rounding": 0}, "--prune-round must be"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningOptions(**values)


def test_a_run_that_ends_before_its_last_step_is_refused() -> None:
    with pytest.raises(UsageError, match="the last of 4 pruning steps comes with epoch 7"):
        TrainingOptions(epochs=6, pruning=PruningOptions(every=2))
    plan = PruningOptions(share=0.75, steps=2, every=3)
    assert [plan.step_at(epoch) for epoch in range(1, 9)] == [1, 0, 0, 2, 0, 0, 0, 0]
    assert [plan.remaining(step) for step in (0, 1, 2)] == pytest.approx([1.0, 0.5, 0.25])
    assert TrainingOptions(epochs=4, pruning=plan).pruning == plan
