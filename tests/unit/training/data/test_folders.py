"""Reading and splitting folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from googlenet_deploy.errors import InputError
from googlenet_deploy.training.data.dataset import TrainingData, data_hash
from googlenet_deploy.training.data.folders import read_folders


def read(folder: Path, share: float = 0.25, seed: int = 0) -> TrainingData:
    return read_folders(folder, None, validation_share=share, seed=seed)


def test_one_folder_is_split_by_class(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    data = read(make_folder(tmp_path / "d", {"b": 8, "a": 20, "c": 2}))
    assert data.classes == ("a", "b", "c")
    assert Counter(sample.label for sample in data.validation) == {0: 5, 1: 2, 2: 1}
    assert Counter(sample.label for sample in data.train) == {0: 15, 1: 6, 2: 1}
    assert not {s.name for s in data.train} & {s.name for s in data.validation}
    assert any("8 of 30 images are held out" in note for note in data.notes)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(tmp_path / "d", {"a": 20, "b": 20})
    assert read(folder).validation == read(folder).validation
    assert read(folder).validation != read(folder, seed=1).validation


@pytest.mark.parametrize("name", ["val", "validation"])
def test_two_folders_are_taken_as_they_are(tmp_path: Path, make_folder: Callable[..., Path], name: str) -> None:
    make_folder(tmp_path / "train", {"a": 3, "b": 1})
    make_folder(tmp_path / name, {"a": 1, "b": 2})
    data = read(tmp_path)
    assert [(s.name, s.label) for s in data.train][-1] == ("train/b/000.png", 1)
    assert (len(data.train), len(data.validation)) == (4, 3)
    assert data.notes == ()


def test_other_files_and_hidden_ones_are_left_out_and_counted(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    make_folder(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "._000.png").write_bytes(b"junk")
    (tmp_path / ".cache").mkdir()
    data = read(tmp_path)
    assert len(data.train) + len(data.validation) == 8
    assert any(
        "1 other file in" in note and "by an operating system or a tool: 1 file (" in note for note in data.notes
    )
    assert any("1 folder in" in note and ".cache" in note for note in data.notes)


def test_wordnet_ids_become_names(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    data = read(make_folder(tmp_path, {"n01440764": 2, "n01443537": 2}))
    assert data.class_ids == ("n01440764", "n01443537")
    assert data.class_names[0].startswith("tench")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 4, "empty": 0, "c": 4}, "class empty has no usable images"),
        ({"a": 4, "single": 1}, "single image"),
        ({"a": 4}, "only the folder a"),
        ({}, "no folders"),
    ],
)
def test_what_cannot_be_split_is_named(
    tmp_path: Path, make_folder: Callable[..., Path], counts: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(make_folder(tmp_path, counts))


@pytest.mark.parametrize(
    ("validation", "message"),
    [({"a": 1}, "lacks b"), ({"a": 1, "b": 1, "z": 1}, "has z"), ({"a": 1, "b": 0}, "class b has no usable")],
)
def test_classes_of_both_folders_must_agree(
    tmp_path: Path, make_folder: Callable[..., Path], validation: dict[str, int], message: str
) -> None:
    make_folder(tmp_path / "train", {"a": 2, "b": 2})
    make_folder(tmp_path / "val", validation)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_train_without_val_is_no_class(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    make_folder(tmp_path / "train", {"a": 2, "b": 2})
    make_folder(tmp_path / "test", {"a": 2, "b": 2})
    with pytest.raises(InputError, match="no val/") as caught:
        read(tmp_path)
    assert str(tmp_path / "train") in caught.value.remedy


def test_validation_images_may_lie_elsewhere(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    train = make_folder(tmp_path / "pictures", {"a": 3, "b": 3})
    measured = make_folder(tmp_path / "measured", {"a": 1, "b": 2})
    data = read_folders(train, measured, validation_share=0.5, seed=0)
    assert (len(data.train), len(data.validation)) == (6, 3)
    assert data.validation[0].name == "a/000.png"
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        read_folders(train, tmp_path / "nowhere", validation_share=0.5, seed=0)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_the_hash_sees_names_and_content_but_not_order() -> None:
    one = [("a/1.png", "00"), ("b/2.png", "11")]
    assert data_hash(one) == data_hash(reversed(one))
    assert data_hash(one) != data_hash([("a/1.png", "00"), ("b/2.png", "12")])
    assert data_hash(one) != data_hash([("a/1.png", "00"), ("c/2.png", "11")])
