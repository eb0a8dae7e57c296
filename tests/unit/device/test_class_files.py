"""Class names in the forms that frameworks publish them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from googlenet_deploy.device.class_files import ClassList, read_class_list
from googlenet_deploy.device.labels import count_mismatch, imagenet_classes, wordnet_ids_of
from googlenet_deploy.errors import InputError

NAMES = ("tench, Tinca tinca", "goldfish", "7up bottle")
IDS = ("n01440764", "n01443537", "n02823428")
PAIRS = list(zip(IDS, NAMES, strict=True))


def read(tmp_path: Path, content: str | bytes) -> ClassList:
    path = tmp_path / "names"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_class_list(path)


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(NAMES),
        "\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n",
        "\n".join(NAMES).encode("utf-16"),
        "\n".join(NAMES).encode("utf-16-le"),
        "\r".join(NAMES),
        "\n".join(f"{i} {name}" for i, name in enumerate(NAMES)),
        "\n".join(f"{i + 1}\t{name}" for i, name in enumerate(NAMES)),
        "\n".join(f"{i}: {name!r}," for i, name in enumerate(NAMES)),
        "{" + ",\n ".join(f"{i}: {name!r}" for i, name in enumerate(NAMES)) + "}",
        "\n".join(f"{i},{name}" for i, name in reversed(list(enumerate(NAMES)))),
        "index,name\n" + "\n".join(f'{i},"{name}"' for i, name in enumerate(NAMES)),
        json.dumps(NAMES),
        json.dumps(NAMES, indent=0),
        json.dumps({str(i): name for i, name in enumerate(NAMES)}),
        json.dumps({name: i for i, name in enumerate(NAMES)}),
        json.dumps({"id2label": {str(i): name for i, name in enumerate(NAMES)}, "model_type": "resnet"}),
        ";".join(NAMES) + "\n",
    ],
)
def test_names_in_many_forms(content: str | bytes, tmp_path: Path) -> None:
    found = read(tmp_path, content)
    assert found.names == NAMES
    assert found.ids == ()


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(f"{each} {name}" for each, name in PAIRS),
        "\n".join(f"{each} {i + 1} {name}" for i, (each, name) in enumerate(PAIRS)),
        "\n".join(f"{i} {each} {name}" for i, (each, name) in enumerate(PAIRS)),
        json.dumps({str(i): pair for i, pair in enumerate(PAIRS)}),
        json.dumps(PAIRS),
        json.dumps([{"id": each, "name": name} for each, name in PAIRS]),
    ],
)
def test_wordnet_ids_are_no_names(content: str, tmp_path: Path) -> None:
    found = read(tmp_path, content)
    assert (found.names, found.ids) == (NAMES, IDS)
    assert found.form


def test_ids_alone_are_given_imagenets_names(tmp_path: Path) -> None:
    found = read(tmp_path, "n01443537\nn99999999\n")
    assert found.names == ("goldfish, Carassius auratus", "n99999999")
    assert found.ids == ("n01443537", "n99999999")


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1", "2"),  # digits are the names of MNIST's classes
        ("1 euro", "2 euro", "5 euro"),
        ("2019 model", "2020 model"),
        ("[unknown]", "cat"),
        ("stop; give way",) * 1 + ("other",),
    ],
)
def test_what_only_looks_like_another_form_stays_names(names: tuple[str, ...], tmp_path: Path) -> None:
    assert read(tmp_path, "\n".join(names)).names == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"0": "a", "2": "b"}', "has no class 1"),
        ('{"3": "a", "4": "b"}', "has no class 0"),
        ('{"a": 0, "b": 0}', "class number twice"),
        ('{"a": [1, 2]}', "neither a list of names nor"),
        ("[1, 2]", "neither a list of names nor"),
        ("[]", "neither a list of names nor"),
        ('["a", ', "begins like JSON"),
        (b"\x00\x01\x02\x03\xff", "text file"),
        ("\ufeff", "contains no class names"),
    ],
)
def test_what_cannot_be_understood_is_refused(content: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, content)


def test_ids_of_imagenets_names_whole_or_short() -> None:
    classes = imagenet_classes()
    ids = tuple(entry.wordnet_id for entry in classes)
    assert wordnet_ids_of([entry.name for entry in classes]) == ids
    assert wordnet_ids_of([entry.name.split(",")[0].replace(" ", "_") for entry in classes]) == ids
    assert wordnet_ids_of([entry.name for entry in reversed(classes)]) == ()
    assert wordnet_ids_of(["cat"]) == ()


@pytest.mark.parametrize(
    ("count", "names", "words"),
    [
        (1001, ("tench",) * 1000, "background class first"),
        (1000, ("background", *("x",) * 1000), "begin with 'background', which the model lacks"),
        (2, ("name", "cat", "dog"), "begin with a heading"),
        (2, ("cat", "", "dog"), "blank lines"),
        (5, ("cat", "dog"), "trained with"),
    ],
)
def test_a_wrong_count_has_a_likely_reason(count: int, names: tuple[str, ...], words: str) -> None:
    assert words in count_mismatch(count, names)
