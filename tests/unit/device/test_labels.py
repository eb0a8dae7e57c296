from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.class_files import read_class_names
from googlenet_deploy.device.labels import imagenet_classes, short_name
from googlenet_deploy.errors import InputError


def test_the_thousand_classes_of_imagenet_in_the_order_of_the_logits() -> None:
    classes = imagenet_classes()
    assert len(classes) == 1000
    ids = [entry.wordnet_id for entry in classes]
    assert ids == sorted(set(ids))
    assert classes[0] == ("n01440764", "tench, Tinca tinca")
    assert classes[999].wordnet_id == "n15075141"
    assert all(entry.name == entry.name.strip() != "" for entry in classes)


def test_they_are_those_of_the_published_list(data_dir: Path) -> None:
    published = (data_dir / "imagenet-sample" / "synset_words.txt").read_text(encoding="utf-8").splitlines()
    assert [f"{entry.wordnet_id} {entry.name}" for entry in imagenet_classes()] == published


def test_names_one_per_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat \n\ndög\n\n\n", encoding="utf-8")
    assert read_class_names(path) == ("cat", "", "dög")  # a blank line inside is a class without a name


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "contains no class names"), (b"\n \n", "contains no class names"), (b"\xff\xfe", "text file")],
)
def test_unusable_lists_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_class_names(path)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: no such file"):
        read_class_names(tmp_path / "none.txt")


@pytest.mark.parametrize(("name", "short"), [("tench, Tinca tinca", "tench"), ("cat", "cat"), ("", "")])
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
