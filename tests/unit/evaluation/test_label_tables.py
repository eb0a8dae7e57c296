"""Tables of labels as people have them: read, with a line that says how, or refused with the cause."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.dataset import ClassIndex, LabelledImages, read_labelled_images

NAMES = ("tench, Tinca tinca", "goldfish", "crane", "barn owl")
IDS = ("n01440764", "n01443537", "n02012849", "n01622779")
CLASSES = ClassIndex(NAMES, IDS)
ROWS = (("a one.jpg", 2), ("b.jpg", 0), ("sub/c.png", 3), ("d.jpeg", 1))
EXPECTED = {"a one.jpg": 2, "b.jpg": 0, "sub/c.png": 3, "d.jpeg": 1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for name, _ in ROWS:
        (root / name).write_bytes(b"x")
    return root


def read(images: Path, content: str | bytes, classes: ClassIndex = CLASSES) -> LabelledImages:
    table = images.parent / "labels.txt"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labelled_images(images, table, classes)


def found(images: Path, content: str | bytes) -> dict[str, int]:
    result = read(images, content)
    pairs = zip(result.sources, result.labels, strict=True)
    return {Path(source.name).relative_to(images).as_posix(): label for source, label in pairs}


def table(separator: str = ",", heading: str = "", row: str = "{name}{separator}{label}", end: str = "\n") -> str:
    lines = [row.format(name=name, separator=separator, label=label, id=IDS[label]) for name, label in ROWS]
    return "".join(f"{line}{end}" for line in ([heading] if heading else []) + lines)


FORMS: dict[str, str | bytes] = {
    "commas": table(),
    "semicolons": table(";", "filename;label"),
    "tabs": table("\t"),
    "bars": table("|", "file|class"),
    "Excel's line": "sep=;\n" + table(";", "filename;label"),
    "JSON Lines": table(row='{{"file_name": "{name}", "label": {label}}}'),
    "a list of objects": json.dumps([{"image": name, "width": 5, "class": IDS[label]} for name, label in ROWS]),
    "labels by file": json.dumps(dict(ROWS)),
    "a list of pairs in an object": json.dumps({"labels": ROWS}, indent=1),
    "files by class": '{"goldfish": ["d.jpeg"], "tench": ["b.jpg"], "crane": ["a one.jpg"], "barn owl": ["sub/c.png"]}',
    "a column per class": "image,tench,goldfish,crane,barn owl\n"
    "a one.jpg,0,0,1,0\nb.jpg,1,0,0,0\nsub/c.png,0,0,0,1\nd.jpeg,0,1,0,0\n",
    "a column per class, as numbers": "crane;tench;goldfish;barn owl;id\n"
    "1.0;0.0;0.0;0.0;a one.jpg\n0.0;1.0;0.0;0.0;b.jpg\n0.0;0.0;0.0;1.0;sub/c.png\n0.0;0.0;1.0;0.0;d.jpeg\n",
    "last space": table(" "),
    "UTF-16": table("\t", "filename\tlabel").encode("utf-16"),
    "UTF-16 without a mark": table("\t").encode("utf-16-le"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + table(heading="filename,label").encode(),
    "Windows": table(heading="Image Name,Class Id", end="\r\n"),
    "old Mac": table(heading="path,target", end="\r"),
    "quotation marks": table(row='"{name}","{label}"'),
    "swapped": table(row="{label},{name}"),
    "swapped with a heading": table(heading="class,image", row="{label},{name}"),
    "pandas' index": table(heading=",filename,label", row="9,{name},{label}"),
    "index without a heading": table(row="99,{name},{label}"),
    "WordNet ids": table(heading="image_id,wnid", row="{name},{id}"),
    "Kaggle's boxes": table(heading="ImageId,PredictionString", row="{name},{id} 85 1 499 272 {id} 1 2 3 4 "),
    "floating-point numbers": table(row="{name},{label}.0"),
    "other columns": table(heading="width,label,filename,note", row="640,{label},{name},7"),
    "heading of no known words": table(heading="bild,klasse"),
    "comments and blank rows": "# by hand\n\n" + table() + ",\n  \n# end\n",
    "from the table's folder": table(row="photos/{name},{label}"),
    "dots": table(row="./{name},{label}"),
    "backslashes": table(row=".\\{name},{label}").replace("sub/c", "sub\\c"),
    "another machine": table(row="/home/ann/data/photos/{name},{label}"),
    "no suffix": table().replace(".jpg", "").replace(".jpeg", "").replace(".png", ""),
    "other case": table().replace(".jpg", ".JPG").replace("d.jpeg", "D.JPEG"),
    "file URL-like folder": table(heading="uri,label", row="photos/{name},{label}"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, images: Path) -> None:
    assert found(images, FORMS[form]) == EXPECTED


def test_absolute_paths_and_links_to_the_folder(images: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(images)
    rows = "".join(f"{images / name},{label}\n" for name, label in ROWS)
    assert found(images, rows) == EXPECTED
    result = read_labelled_images(tmp_path / "link", tmp_path / "labels.txt", CLASSES)
    assert sorted(result.labels) == [0, 1, 2, 3]


def test_a_name_that_a_mac_wrote_decomposed(images: Path) -> None:
    (images / unicodedata.normalize("NFD", "möwe.jpg")).write_bytes(b"x")
    assert read(images, unicodedata.normalize("NFC", "möwe.jpg") + ",2\n").labels == (2,)


def test_latin_1(images: Path) -> None:
    (images / "möwe.jpg").write_bytes(b"x")
    result = read(images, "möwe.jpg;2\n".encode("latin-1"))
    assert result.labels == (2,)
    assert "Latin-1" in result.understood


def test_the_line_says_how_the_table_was_read(images: Path) -> None:
    result = read(images, "# x\n" + table(";", "Klasse;Datei", row="{label};{name}") + ";a.jpg\n")
    assert result.understood == (
        f"{images.parent / 'labels.txt'}: 4 rows, cells separated by semicolons, UTF-8; the first row is a heading; "
        "column 2 'Datei' names the files; column 1 'Klasse' the classes by number (0 to 3); 1 comment line; "
        "left out: 1 row without a label"
    )
    assert result.remarks[0] == result.understood


def test_a_file_that_several_names_would_fit_is_missing(images: Path) -> None:
    (images / "B.JPG").write_bytes(b"x")
    with pytest.raises(InputError, match=r"names 1 file missing from .*: B\.jpg"):
        read(images, "B.jpg,0\n")


def test_the_same_name_in_another_folder_is_not_taken(images: Path) -> None:
    with pytest.raises(InputError, match="names 1 file missing from"):
        read(images, "a one.jpg,1\ntrain/b.jpg,0\n")


@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (
            "b.jpg," + "9" * 5000 + "\n",
            r"has 1 label of no single class: '9{40}... \(5000 characters\)'",
            "0 to 3",
        ),
        ("b.jpg,4\n", "has 1 label of no single class: '4'", "count from 1"),
        ("12\n3\n800\n", "one number per line and no file names", "development kit"),
        ("b.jpg\nd.jpeg\n", "row without a label: 'b.jpg'", "filename,label"),
        ("filename,label\nb.jpg,0\nd.jpeg\n", "row without a label: 'd.jpeg'", "commas"),
        ("b.jpg,n01440764 1 2 3 4 n01443537 1 2 3 4\n", "no single class", ""),
        (b"\x00\x01\x02\x03", "not a CSV file of text", "UTF-8"),
        (b"PK\x03\x04" + bytes(300), "not a CSV file of text", "UTF-8"),
    ],
)
def test_what_is_refused_names_the_cause(content: str | bytes, words: str, remedy: str, images: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(images, content)
    assert remedy in (caught.value.remedy or "")
    assert len(caught.value.message) < 400


def test_a_label_of_thousands_of_digits_is_no_class() -> None:
    assert ClassIndex(()).find("7" * 5000) is None
    assert ClassIndex(()).find("0" * 5000 + "7") == 7


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 2}]}', "is JSON, but neither"),
        ('[1, 2, {"a": 3}]', "is JSON, but neither"),
        ('{"b.jpg": 0, "b.jpg": 1}', "the key b.jpg twice"),
        (
            '[{"file": "b.jpg", "label": ' + "[" * 985 + "]" * 985 + "}]",
            "no single class|without a label",
        ),
        ("filename,label,class_name\na one.jpg,3,crane\nb.jpg,1,tench\n", "contradicts itself: for a one.jpg"),
        ("class;file;wnid\n1;b.jpg;n01440764\n2;d.jpeg;n01443537\n", "contradicts itself: for b.jpg"),
        ("image,crane,tench\na one.jpg,1,1\nb.jpg,0,1\n", "a one.jpg|image"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "without a label|no labels|no single class"),
    ],
)
def test_other_forms_are_refused_with_their_cause(images: Path, content: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        read(images, content)


def test_numbers_beside_coarser_classes_are_no_contradiction(images: Path) -> None:
    content = "filename,label,category\n" + "".join(f"{name},{label},animal\n" for name, label in ROWS)
    assert found(images, content) == EXPECTED


def test_two_flags_are_no_classes(images: Path) -> None:
    content = "filename,label,val\n" + "".join(f"{name},{label % 2},{1 - label % 2}\n" for name, label in ROWS)
    assert found(images, content) == {name: label % 2 for name, label in ROWS}
