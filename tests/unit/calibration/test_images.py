"""Which images calibrate: folders, lists, seeded draws, and what is left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.calibration.images import ArrayBatches, hash_contents, hash_images, is_list, select_images
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import InputError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files that are called images; nothing here opens them."""
    root = tmp_path / "images"
    for index in range(10):
        path = root / f"{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([index]))
    (root / "notes.md").write_text("no image")
    return root


def names(images: tuple[ImageSource, ...]) -> list[str]:
    return [Path(image.name).name for image in images]


def other_files(folder: Path) -> str:
    return f"not images: 1 other file in the folders ({folder / 'notes.md'})"


def test_a_draw_is_reproducible_and_leaves_the_others(folder: Path) -> None:
    first, again, other = (select_images(folder, 4, seed) for seed in (7, 7, 8))
    assert first == again
    assert first.chosen != other.chosen
    assert len(first.chosen) == 4
    assert sorted(names(first.chosen + first.others)) == sorted(f"{index}.png" for index in range(10))
    assert list(first.others) == sorted(first.others)
    assert first.notes == (other_files(folder),)


def test_all_images_in_their_own_order_without_a_count(folder: Path) -> None:
    selection = select_images(folder, None)
    assert names(selection.chosen) == [*(f"{i}.png" for i in (0, 2, 4, 6, 8)), *(f"{i}.png" for i in (1, 3, 5, 7, 9))]
    assert selection.others == ()
    assert selection.notes == (other_files(folder),)


def test_fewer_images_than_asked_for_are_all_used_and_that_is_said(folder: Path) -> None:
    selection = select_images(folder, 50)
    assert len(selection.chosen) == 10
    shortage = "50 images were asked for, there are only 10: all of them are used"
    assert selection.notes == (shortage, other_files(folder))
    assert select_images(folder, 10).notes == (other_files(folder),)
    (folder / "notes.md").unlink()
    assert select_images(folder, 10).notes == ()


def test_a_list_names_images_relative_to_itself(folder: Path) -> None:
    listing = folder / "some.txt"
    listing.write_text("1/3.png\n\n0/4.png\n")
    assert is_list(listing)
    assert not is_list(folder)
    selection = select_images(listing, None)
    assert [image.name for image in selection.chosen] == [str(folder / "1/3.png"), str(folder / "0/4.png")]
    assert len(select_images(listing, 1).others) == 1


def test_no_images_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing here")
    with pytest.raises(InputError, match=r"contains no images") as caught:
        select_images(tmp_path, 5)
    assert caught.value.path == str(tmp_path)
    assert caught.value.remedy
    with pytest.raises(InputError, match="no such file or folder"):
        select_images(tmp_path / "missing", 5)


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_one_is_refused(folder: Path, count: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        select_images(folder, count)


def test_the_hash_tells_contents_names_and_order_apart(folder: Path, tmp_path: Path) -> None:
    images = list(select_images(folder, None).chosen)
    value = hash_images(images, hash_contents(images))
    moved = [ImageSource(image.name, Path(image.name).read_bytes()) for image in images]
    assert hash_images(moved, hash_contents(moved)) == value, "the folder does not matter, nor where the bytes lie"
    assert hash_images(images[::-1], hash_contents(images[::-1])) != value
    Path(images[0].name).write_bytes(b"changed")
    assert hash_images(images, hash_contents(images)) != value


def test_an_image_that_has_gone_is_named(folder: Path) -> None:
    images = list(select_images(folder, None).chosen)
    Path(images[3].name).unlink()
    with pytest.raises(InputError, match=r"6\.png: cannot be read"):
        hash_contents(images)


def test_arrays_come_in_batches_every_time() -> None:
    batches = ArrayBatches(np.arange(10).reshape(5, 2), 2)
    for _ in range(2):
        parts = list(batches)
        assert [len(part.array) for part in parts] == [2, 2, 1]
        assert np.array_equal(np.concatenate([part.array for part in parts]), batches.array)
        assert [name for part in parts for name in part.names] == [f"image {index}" for index in range(5)]
