"""Which images judge a result: those that it was not made from, by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from googlenet_deploy.calibration.images import ImageSelection, hash_contents, held_back, select_images
from googlenet_deploy.calibration.table import CONTENT_DIGITS, CalibrationTable
from googlenet_deploy.device.images.sources import ImageSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty files called images."""
    for index in range(20):
        (tmp_path / f"{index:02d}.png").write_bytes(bytes([index]))
    return tmp_path


def made_from(table: CalibrationTable, images: tuple[ImageSource, ...]) -> CalibrationTable:
    contents = tuple(content[:CONTENT_DIGITS] for content in hash_contents(images))
    return replace(table, images=replace(table.images, contents=contents))


def test_those_that_were_left_over_spread_evenly(folder: Path, mini_table: CalibrationTable) -> None:
    selection = select_images(folder, 8)
    hold_out = held_back(selection, made_from(mini_table, selection.chosen), 4, used=True)
    assert hold_out.unseen
    assert list(hold_out.images) == [selection.others[index] for index in (0, 3, 6, 9)]


def test_copies_of_calibration_images_do_not_judge(folder: Path, mini_table: CalibrationTable) -> None:
    selection = select_images(folder, 8)
    copy = selection.others[0]
    Path(copy.name).write_bytes(Path(selection.chosen[0].name).read_bytes())
    hold_out = held_back(selection, made_from(mini_table, selection.chosen), 99, used=True)
    assert copy not in hold_out.images
    assert len(hold_out.images) == 11


def test_with_a_table_of_other_images_all_may_judge(folder: Path, mini_table: CalibrationTable) -> None:
    selection = select_images(folder, 8)
    hold_out = held_back(selection, mini_table, 99, used=False)
    assert hold_out.unseen
    assert len(hold_out.images) == 20


def test_where_all_were_used_they_judge_and_that_is_known(folder: Path, mini_table: CalibrationTable) -> None:
    selection = select_images(folder, None)
    for used in (True, False):
        hold_out = held_back(selection, made_from(mini_table, selection.chosen), 5, used=used)
        assert not hold_out.unseen
        assert len(hold_out.images) == 5


def test_images_that_have_gone_are_left_to_the_reader(mini_table: CalibrationTable) -> None:
    selection = ImageSelection((), (ImageSource("gone.png"),))
    assert held_back(selection, mini_table, 5, used=True).images == (ImageSource("gone.png"),)


def test_a_selection_of_some_names(folder: Path) -> None:
    selection = select_images(folder, 8)
    names = {selection.chosen[0].name, selection.others[2].name}
    only = selection.only(names)
    assert (only.chosen, only.others) == (selection.chosen[:1], selection.others[2:3])
