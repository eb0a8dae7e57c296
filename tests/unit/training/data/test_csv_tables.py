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
    (note,) = data.notes
    assert note.endswith(
        "10 rows, cells separated by commas, UTF-8; the first row is a heading; column 1 'filename' names the files; "
        "column 2 'label' the classes by name; column 3 'split' says what a row is for"
    )


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
        ("", "contains no labels"),
        ("filename,label\n", "contains no labels"),
        ("x/000.png\n", "has a row without a label: 'x/000.png'"),
        ("x/000.png,x\nx/001.png,x,train\n", "has 1 row without a split"),
        ("x/000.png,\n", "contains no labels"),
        ("x/000.png,x\nx/001.png\n", "has a row without a label: 'x/001.png'"),
        ("filename,label,split\nx/000.png,x,fourth\n", "marks rows with 'fourth'"),
        ("x/000.png,x\n./x/000.png,y\n", "lists x/000.png more than once"),
        ("x/000.png,x,test\n", "marks rows with 'test'"),
        ("x/000.png,x\nx/000.png,y\n", "lists x/000.png more than once"),
        ("x/000.png,x\nx/001.png,x\n", "only the class x"),
        ("x/000.png,x\ny/nine.png,y\n", "lists 1 file missing from"),
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
    (tmp_path / "t.csv").write_bytes(b"\x00\x01\x02\x03")
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


FORMS = {
    "semicolons and a heading": "Bild;Klasse\n{0}",
    "tabs, swapped": "{1}",
    "spaces": "{2}",
    "spaces around commas and quotes": "{3}",
    "UTF-16": "filename\tlabel\n{4}",
    "from another folder": "{5}",
    "backslashes and other case": "{6}",
    "no suffix, more columns": "width,label,image_id,note\n{7}",
    "Kaggle's boxes": "ImageId,PredictionString\n{8}",
    "comments and blank rows": "# mine\n\n{9},\n",
    "rows for training and validation": "image,subset,target\n{10}",
}
ROWS = (
    "{name};{label}", "{label}\t{name}", "{name} {label}", '"{name}" , "{label}"', "{name}\t{label}",
    "/mnt/disk/pictures/{name},{label}", "{upper},{label}", "640,{label},{stem},7", "{name},{id} 1 2 3 4 ",
    "{name},{label}", "{name},{split},{label}",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_tables_in_the_forms_that_evaluate_reads(pictures: Path, form: str) -> None:
    files = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    ids = {"x": "n01440764", "y": "n01443537"}
    tables = [
        "".join(
            row.format(
                name=name, label=name[0], upper=name.replace("/", "\\").upper(), stem=name[:-4], id=ids[name[0]],
                split="Training" if index % 3 else "VALID",
            ) + "\n"
            for index, name in enumerate(files)
        )
        for row in ROWS
    ]  # fmt: skip
    table = pictures.parent / "rows.txt"
    table.write_bytes(FORMS[form].format(*tables).encode("utf-16" if form == "UTF-16" else "utf-8"))
    data = read(table, pictures)
    wanted = ("n01440764", "n01443537") if "boxes" in form else ("x", "y")
    assert data.classes == wanted
    assert sorted(sample.name for sample in (*data.train, *data.validation)) == files
    assert all(sample.label == "xy".index(sample.name[0]) for sample in (*data.train, *data.validation))
    assert sum("rows, cells separated by" in note for note in data.notes) == 1
    if "validation" in form:
        assert sorted(sample.name for sample in data.validation) == files[::3]


def test_absolute_paths_lead_anywhere(tmp_path: Path, pictures: Path) -> None:
    rows = "".join(f"{path},{path.parent.name}\n" for path in sorted(pictures.rglob("*.png")))
    (tmp_path / "elsewhere").mkdir()
    data = read(write(tmp_path / "elsewhere" / "t.csv", rows))
    assert {Path(str(sample.path)).parent for sample in data.train} == {pictures / "x", pictures / "y"}


def test_numbers_with_a_decimal_point_and_numbers_of_thousands_of_digits(pictures: Path) -> None:
    table = write(pictures / "t.csv", listing(pictures, lambda p: {"x": "10.0", "y": "9.0"}[p.parent.name]))
    assert read(table).classes == ("9", "10")
    table = write(pictures / "u.csv", listing(pictures, lambda p: {"x": "1" * 5000, "y": "9"}[p.parent.name]))
    assert read(table).classes == ("1" * 5000, "9")


def test_a_class_named_like_a_split_is_a_class(pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    label = {"x": "train", "y": "bus"}
    rows = "".join(f"{path.relative_to(pictures)},{label[path.parent.name]},1.5\n" for path in files)
    assert read(write(pictures / "t.csv", rows)).classes == ("bus", "train")


@pytest.mark.parametrize("heading", ["filename,label,note\n", ""])
def test_a_column_of_equal_cells_beside_labels_that_occur_once_is_not_the_label(pictures: Path, heading: str) -> None:
    rows = "".join(f"{name}/000.png,{name},640\n" for name in "xy")
    assert [row.label for row in read_rows(write(pictures / "t.csv", heading + rows)).rows] == ["x", "y"]
