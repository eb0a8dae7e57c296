"""Labelled images: a folder with a CSV of labels, or a folder per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.folders import class_folders, describe_left_out, search_folder
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.labels import short_name, wordnet_ids_of
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.file_names import FileNames
from googlenet_deploy.evaluation.label_tables import class_of, read_label_table, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3
LONGEST_NUMBER = 9  # maximum digits of a class index; Python refuses to parse thousands of them


@dataclass(frozen=True)
class LabelledImages:
    """Images with the index of their true class.

    Attributes:
        sources: The images, sorted by name.
        labels: One class index per image.
        notes: Human-readable notes on omissions.
        class_count: Number of classes that the labels refer to; 0 if unknown.
        understood: In one line, how a table of labels was read; empty without one.
    """

    sources: tuple[ImageSource, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()
    class_count: int = 0
    understood: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """How the labels were read, and what was omitted."""
        return ((self.understood,) if self.understood else ()) + self.notes


class ClassIndex:
    """Finds the index of a class by its number, its name (whole or the first of several) or its WordNet id.

    Args:
        names: Class names in the order of the logits; may be empty.
        ids: WordNet ids in the order of the logits; if empty, ImageNet's are used when the names are ImageNet's.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] = ()) -> None:
        ids = ids or wordnet_ids_of(names)
        self.count = max(len(names), len(ids))
        self._by_word: dict[str, int | None] = {}
        for words in ([short_name(name) for name in names], names, ids):
            self._by_word.update(_unique_places(words))

    def find(self, label: str) -> int | None:
        """The index of a label's class; None if it is unknown or ambiguous, like "crane" in ImageNet.

        Names take precedence over numbers, so that the classes "0" to "9" in any order are found by name.
        """
        word = label.strip().lower()
        if word in self._by_word:
            return self._by_word[word]
        if not word.isascii() or not word.isdigit() or len(word.lstrip("0")) > LONGEST_NUMBER:
            return None
        index = int(word.lstrip("0") or "0")
        return index if not self.count or index < self.count else None


def _unique_places(words: Sequence[str]) -> dict[str, int | None]:
    """The index of each word in lower case; None for a word that occurs more than once."""
    places: dict[str, int | None] = {}
    for index, word in enumerate(words):
        key = word.strip().lower()
        places[key] = None if key in places else index
    return places


def read_labelled_images(folder: str | Path, labels: str | Path | None, classes: ClassIndex) -> LabelledImages:
    """Images with labels, from a CSV file or, if `labels` is None, from a folder per class.

    Raises:
        InputError: Files are missing, labels are unknown, or no images are left.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(folder, "is not a folder of images")
    try:
        found = _from_csv(root, Path(labels), classes) if labels is not None else _from_folders(root, classes)
    except OSError as error:
        raise InputError(folder, f"cannot be read: {reason(error)}") from error
    if not found.sources:
        raise InputError(folder, "contains no images with labels")
    return replace(found, class_count=classes.count)


def has_labels(folder: str | Path, classes: ClassIndex) -> bool:
    """Whether a folder holds one folder per class, with known class names only."""
    root = Path(folder)
    if not root.is_dir():
        return False
    folders, _ = class_folders(root)
    return bool(folders) and all(classes.find(each.name) is not None for each in folders)


def unlabelled_images(folder: str | Path) -> LabelledImages:
    """All images of a folder, without labels.

    Raises:
        InputError: There is no such folder, or it holds no images.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(folder, "is not a folder of images")
    content = search_folder(root)
    if not content.images:
        raise InputError(folder, "contains no images")
    others = describe_left_out(content.other_files)
    folders = [path.name for path in class_folders(root)[0]]
    why = f"the folders ({', '.join(folders[:SHOWN])}, ...) are not classes of the model" if folders else "no --labels"
    notes = (f"accuracy is not measured: {why}", *((others,) if others else ()), *content.notes)
    return LabelledImages(tuple(map(ImageSource, content.images)), (), notes)


def _from_csv(root: Path, labels: Path, classes: ClassIndex) -> LabelledImages:
    content = search_folder(root)
    files = FileNames(root, [*content.images, *content.other_files], labels)
    table = read_label_table(labels, files, classes.find)
    by_name: dict[str, int] = {}
    missing, unknown = [], []
    for written, name, label in table.rows:
        index = class_of(label, classes.find)
        if index is None:
            unknown.append((label, written))
        elif name is None:
            missing.append(written)
        elif by_name.setdefault(name, index) != index:
            raise InputError(labels, f"gives {name} two different labels")
    if unknown:
        raise refuse_unknown(labels, unknown, classes.count)
    if missing:
        raise InputError(
            labels, f"names {counted(len(missing), 'file')} missing from {root}: {', '.join(missing[:SHOWN])}"
        )
    images = {Path(path).relative_to(root).as_posix() for path in content.images}
    unlabelled = images - set(by_name)
    notes = (f"left out: {counted(len(unlabelled), 'image')} in {root} without a label",) if unlabelled else ()
    names = sorted(by_name)
    sources = tuple(ImageSource(str(root / name)) for name in names)
    labelled = tuple(by_name[name] for name in names)
    return LabelledImages(sources, labelled, (*notes, *content.notes), understood=table.understood)


def _from_folders(root: Path, classes: ClassIndex) -> LabelledImages:
    folders, left_out = class_folders(root)
    if not folders:
        raise InputError(root, "has no folder per class", "pass a CSV of filename,label with --labels")
    unknown = [folder.name for folder in folders if classes.find(folder.name) is None]
    if unknown:
        raise InputError(
            root,
            f"has {counted(len(unknown), 'folder')} of no single class: {', '.join(unknown[:SHOWN])}",
            "name them by class name, class index or WordNet id, or pass --class-names",
        )
    sources, labels = [], []
    others, notes = list[str](), list[str]()
    for folder in folders:
        index = classes.find(folder.name)
        assert index is not None
        content = search_folder(folder)
        sources += [ImageSource(path) for path in content.images]
        labels += [index] * len(content.images)
        others += content.other_files
        notes += content.notes
    if left_out:
        names = counted(len(left_out), "folder")
        notes.append(f"left out, not a class: {names} in {root}: {', '.join(left_out)}")
    if others:
        notes.append(f"{root}: {describe_left_out(others)}")
    return LabelledImages(tuple(sources), tuple(labels), tuple(notes))
