from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.dataset import ClassIndex, LabelledImages, read_labelled_images

ANIMALS = ClassIndex(("tench, Tinca tinca", "goldfish, Carassius auratus", "Crane"), ("n01", "n02", "n03"))


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("tench", 0),
        ("Tinca tinca", None),  # only the whole name and its first part
        ("tench, Tinca tinca", 0),
        (" CRANE ", 2),
        ("n02", 1),
        ("1", 1),
        ("3", None),
        ("-1", None),
        ("²", None),
        ("", None),
    ],
)
def test_a_class_by_name_number_or_wordnet_id(label: str, index: int | None) -> None:
    assert ANIMALS.find(label) == index


def test_names_come_before_numbers() -> None:
    assert ClassIndex(("9", "8", "7")).find("9") == 0
    assert ClassIndex(("9", "8", "7")).find("2") == 2


def test_without_names_any_number_is_an_index() -> None:
    assert ClassIndex(()).find("4711") == 4711
    assert ClassIndex(()).find("cat") is None


def test_every_imagenet_class_is_found_by_its_id_and_no_name_means_two() -> None:
    classes = imagenet_classes()
    index = ClassIndex([entry.name for entry in classes], [entry.wordnet_id for entry in classes])
    assert [index.find(entry.wordnet_id) for entry in classes] == list(range(1000))
    assert index.find("crane") is None  # the bird, 134, and the machine, 517
    assert index.find("maillot") == 638  # the whole name of one class before the first part of another's
    for place, entry in enumerate(classes):
        assert index.find(entry.name) in (place, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.jpg, a.jpg, sub/c.png and a file that is no image."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "sub/c.png", "notes.txt"):
        (root / name).write_bytes(b"x")
    return root


def read_csv(folder: Path, text: str | bytes) -> LabelledImages:
    labels = folder.parent / "labels.csv"
    labels.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_labelled_images(folder, labels, ANIMALS)


ROWS = "b.jpg,crane\na.jpg,n01\nsub/c.png,1\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "filename,label\n" + ROWS,
        "\ufeffFilename,Label,more\r\n" + ROWS.replace("\n", ",x\r\n"),
        ROWS + "\n" + ROWS,
    ],
    ids=["plain", "heading", "from a spreadsheet", "rows repeated"],
)
def test_a_table_of_labels(text: str, folder: Path) -> None:
    images = read_csv(folder, text)
    assert [Path(source.name).name for source in images.sources] == ["a.jpg", "b.jpg", "c.png"]
    assert images.labels == (0, 2, 1)
    assert images.notes == ()


def test_quoted_names_with_commas(folder: Path) -> None:
    assert read_csv(folder, 'a.jpg,"goldfish, Carassius auratus"\n').labels == (1,)


def test_images_without_a_label_are_counted(folder: Path) -> None:
    images = read_csv(folder, "a.jpg,0\n")
    assert len(images.sources) == 1
    assert images.notes == (f"left out: 2 images in {folder} without a label",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "contains no labels"),
        ("filename,label\n", "contains no labels"),
        ("a.jpg\n", "has a row without a label: 'a.jpg'"),
        ("a.jpg,whale\nb.jpg,9\n", r"has 2 labels of no single class: 'whale' \(a.jpg\), '9' \(b.jpg\)"),
        ("a.jpg,0\nz.jpg,0\ny.jpg,1\n", "names 2 files missing from .*: z.jpg, y.jpg"),
        ("a.jpg,0\na.jpg,1\n", "gives a.jpg two different labels"),
        ("../labels.csv,0\n", "names 1 file missing from"),
        (b"\xff\xfea.jpg", "not a CSV file of text"),
        ('"' + "x" * 200_000, "not a CSV file of text"),
    ],
)
def test_tables_that_make_no_sense_are_refused(text: str | bytes, words: str, folder: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_csv(folder, text)
    assert caught.value.path == str(folder.parent / "labels.csv")


def test_a_missing_table_or_folder_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: cannot be read: no such file"):
        read_labelled_images(folder, folder / "none.csv", ANIMALS)
    for place in (folder / "none", folder / "a.jpg"):
        with pytest.raises(InputError, match="is not a folder of images"):
            read_labelled_images(place, None, ANIMALS)


@pytest.fixture
def by_class(tmp_path: Path) -> Path:
    """crane/2.png, tench/a/1.jpg, a file that is no image, and a hidden folder."""
    for name in ("crane/2.png", "crane/readme.txt", "tench/a/1.jpg", ".cache/x.jpg"):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "val"


def test_a_folder_per_class(by_class: Path) -> None:
    images = read_labelled_images(by_class, None, ANIMALS)
    assert [source.name for source in images.sources] == [
        str(by_class / name) for name in ("crane/2.png", "tench/a/1.jpg")
    ]
    assert images.labels == (2, 0)
    assert images.notes == (
        f"left out, not a class: 1 folder in {by_class}: .cache",
        f"{by_class}: not images: 1 other file in the folders ({by_class}/crane/readme.txt)",
    )


@pytest.mark.parametrize(("crane", "tench"), [("n03", "n01"), ("2", "0")])
def test_folders_by_wordnet_id_or_index(crane: str, tench: str, by_class: Path) -> None:
    (by_class / "crane").rename(by_class / crane)
    (by_class / "tench").rename(by_class / tench)
    assert sorted(read_labelled_images(by_class, None, ANIMALS).labels) == [0, 2]


def test_folders_that_are_no_class_are_named(by_class: Path) -> None:
    (by_class / "whale").mkdir()
    with pytest.raises(InputError, match="has 1 folder of no single class: whale") as caught:
        read_labelled_images(by_class, None, ANIMALS)
    assert caught.value.remedy is not None


def test_folders_without_images_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "val" / "crane").mkdir(parents=True)
    with pytest.raises(InputError, match="contains no images with labels"):
        read_labelled_images(tmp_path / "val", None, ANIMALS)
    with pytest.raises(InputError, match="has no folder per class") as caught:
        read_labelled_images(tmp_path / "val" / "crane", None, ANIMALS)
    assert "--labels" in str(caught.value.remedy)
