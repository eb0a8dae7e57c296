"""Data sets that a CSV file lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from googlenet_deploy.errors import InputError
from googlenet_deploy.training.data.csv_tables import read_rows, read_table
from googlenet_deploy.training.data.dataset import TrainingData


@pytest.fixture
def pictures(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path / "pictures", {"x": 6, "y": 4})


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def listing(pictures: Path, label: Callable[[Path], str] = lambda p: p.parent.name, split: bool = False) -> str:
    files = sorted(pictures.rglob("*.png"))
    marks = {p: (",val" if p.stem in ("000", "001") else ",train") if split else "" for p in files}
    return "".join(f"{p.relative_to(pictures)},{label(p)}{marks[p]}\n" for p in files)


def read(table: Path, images: Path | None = None, validation: Path | None = None) -> TrainingData:
    return read_table(table, validation, images, validation_share=0.25, seed=0)


def test_rows_without_a_split_are_split_by_class(tmp_path: Path, pictures: Path) -> None:
    data = read(write(tmp_path / "t.csv", "filename,label\n" + listing(pictures)), pictures)
    assert data.classes == ("x", "y")
    assert [sum(s.label == k for s in data.validation) for k in (0, 1)] == [2, 1]
    assert len(data.train) == 7
    assert "3 of 10 images are held out" in data.notes[0]


def test_marked_rows_are_taken_as_they_are_and_names_are_relative_to_the_file(pictures: Path) -> None:
    data = read(write(pictures / "t.csv", "filename,label,split\n" + listing(pictures, split=True)))
    assert {s.name for s in data.validation} == {"x/000.png", "x/001.png", "y/000.png", "y/001.png"}
    assert len(data.train) == 6
    assert data.notes == ()


def test_labels_that_are_numbers_are_ordered_as_numbers(pictures: Path) -> None:
    table = write(pictures / "t.csv", listing(pictures, lambda p: {"x": "10", "y": "9"}[p.parent.name]))
    assert read(table).classes == ("9", "10")


def test_a_second_file_holds_validation_images(tmp_path: Path, pictures: Path) -> None:
    rows = listing(pictures).splitlines(keepends=True)
    train, other = write(tmp_path / "t.csv", "".join(rows[1:])), write(tmp_path / "v.csv", rows[0] + rows[-1])
    data = read(train, pictures, other)
    assert (len(data.train), len(data.validation)) == (9, 2)
    with pytest.raises(InputError, match="its classes are not those of the training images: it lacks y"):
        read(train, pictures, write(tmp_path / "w.csv", rows[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no images"),
        ("filename,label\n", "lists no images"),
        ("x/000.png\n", "not like the others: 'x/000.png'"),
        ("x/000.png,x\nx/001.png,x,train\n", "not like the others: 'x/001.png,x,train'"),
        ("x/000.png,\n", "not like the others"),
        ("x/000.png,x,test\n", "marks rows with 'test'"),
        ("x/000.png,x\nx/000.png,y\n", "lists x/000.png more than once"),
        ("x/000.png,x\nx/001.png,x\n", "only the class x"),
        ("x/000.png,x\ny/nine.png,y\n", "lists 1 files that are not in"),
        ("x/000.png,x\ny/000.png,y\ny/001.png,y\n", "class x has a single image"),
        (
            "x/000.png,x,train\ny/000.png,y,train\nx/001.png,x,val\n",
            "class y has no usable images in the rows marked val",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_named(pictures: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(pictures / "t.csv", text))
    assert "t.csv" in caught.value.message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="is not a CSV file of text"):
        read_rows(tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "nowhere.csv")


def test_a_model_that_knows_its_classes_needs_no_images_of_each(tmp_path: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    rows = [f"{path.relative_to(pictures)},{number}\n" for number, path in enumerate(files)]
    alone = write(tmp_path / "t.csv", "".join(rows))
    with pytest.raises(InputError, match="single image"):
        read(alone, pictures)
    data = read_table(alone, None, pictures, validation_share=0.2, seed=0, every_class=False)
    assert (len(data.train), len(data.validation)) == (8, 2)
    assert sorted(s.label for s in (*data.train, *data.validation)) == list(range(10))
    marks = ["val" if number < 3 else "train" for number in range(10)]
    marked = write(tmp_path / "m.csv", "".join(f"{row.strip()},{m}\n" for row, m in zip(rows, marks, strict=True)))
    data = read_table(marked, None, pictures, validation_share=0.2, seed=0, every_class=False)
    assert [s.label for s in data.validation] == [0, 1, 2]
    first, second = (write(tmp_path / name, "".join(part)) for name, part in (("a", rows[:6]), ("b", rows[6:])))
    data = read_table(first, second, pictures, validation_share=0.2, seed=0, every_class=False)
    assert len(data.classes) == 10
    assert [s.label for s in data.validation] == [6, 7, 8, 9]
