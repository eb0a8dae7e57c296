from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from googlenet_deploy.device.images.sources import ImageSource, find_images, read_image_list
from googlenet_deploy.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """b.JPG, a.png, sub/c.webp and two files that are no images; it is the working folder."""
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", "sub/Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str, stdin: bytes | None = None) -> list[str]:
    stream = None if stdin is None else io.BytesIO(stdin)
    return [source.name for source in find_images(arguments, stream).images]


def test_a_folder_is_searched_with_its_subfolders_and_sorted(folder: Path) -> None:
    sources = find_images([folder])
    assert [source.name for source in sources.images] == [str(folder / n) for n in ("a.png", "b.JPG", "sub/c.webp")]
    assert sources.other_files == [str(folder / "notes.txt"), str(folder / "sub" / "Thumbs.db")]


def test_a_file_is_taken_whatever_its_suffix_in_the_order_given(folder: Path) -> None:
    assert names("notes.txt", "a.png", "notes.txt") == ["notes.txt", "a.png", "notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("[ab].*", ["a.png", "b.JPG"]),
        ("su?", ["sub/c.webp"]),
        ("**/*.webp", ["sub/c.webp"]),
    ],
)
def test_patterns(pattern: str, expected: list[str], folder: Path) -> None:
    assert names(pattern) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "img[1].png").write_bytes(b"x")
    assert names("img[1].png") == ["img[1].png"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("none.jpg", "no such file or folder"), ("*.none", "no file matches"), ("x" * 300, "file name too long")],
)
def test_what_leads_to_nothing_is_named(argument: str, words: str, folder: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        names(argument)
    assert caught.value.path == argument


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    assert names(str(tmp_path)) == []


def test_broken_links_and_loops_are_no_files(folder: Path) -> None:
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "sub" / "loop").symlink_to(folder)
    assert [Path(name).name for name in names(".")] == ["a.png", "b.JPG", "c.webp"]


@pytest.mark.parametrize("listing", [b"a.png\n\n sub/c.webp \r\n", b"a.png\nsub/c.webp"])
def test_paths_on_standard_input(listing: bytes, folder: Path) -> None:
    assert names("-", stdin=listing) == ["a.png", "sub/c.webp"]


@pytest.mark.parametrize("name", ["BMW.jpg", "RIFF.png", "GIF89a.gif", "P5/1.pgm", "x\u2028y.png"])
def test_paths_that_begin_like_images_are_paths(name: str) -> None:
    assert names("-", stdin=name.encode()) == [name]


def test_paths_that_are_not_text_are_kept() -> None:
    assert names("-", stdin=b"caf\xe9.jpg\n") == [os.fsdecode(b"caf\xe9.jpg")]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_an_image_on_standard_input(form: str) -> None:
    stream = io.BytesIO()
    Image.effect_noise((16, 16), 90).convert("RGB").save(stream, form)
    (source,) = find_images(["-"], io.BytesIO(stream.getvalue())).images
    assert source == ImageSource("standard input", stream.getvalue())


def test_nothing_on_standard_input() -> None:
    assert names("-", stdin=b"\n") == []


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input: is closed"):
        names("-")


def test_a_list_of_images_is_relative_to_its_own_folder(folder: Path) -> None:
    listing = folder / "sub" / "list.txt"
    listing.write_text("c.webp\n\n../a.png\n/b.jpg\n", encoding="utf-8")
    expected = [str(folder / "sub" / "c.webp"), str(folder / "sub" / ".." / "a.png"), "/b.jpg"]
    assert [source.name for source in read_image_list(listing).images] == expected


@pytest.mark.parametrize(("content", "words"), [(b"", "names no images"), (b"\xff\xfe\0", "not a text file")])
def test_unusable_lists_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_image_list(listing)
    with pytest.raises(InputError, match="cannot be read"):
        read_image_list(tmp_path / "none.txt")


@pytest.mark.parametrize("listing", [b"a.png\0sub/c.webp\0", b"a.png\0", b"with a\nline break.png\0"])
def test_paths_that_end_in_a_nul_byte(listing: bytes, folder: Path) -> None:
    (folder / "with a\nline break.png").write_bytes(b"x")
    assert names("-", stdin=listing) == [os.fsdecode(path) for path in listing.split(b"\0")[:-1]]


def test_a_pattern_leaves_out_what_systems_leave_behind(folder: Path) -> None:
    sources = find_images(["sub/*"])
    assert [source.name for source in sources.images] == ["sub/c.webp"]
    assert sources.other_files == ["sub/Thumbs.db"]


def test_links_and_loops_of_a_folder_are_noted(folder: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder)
    assert find_images([folder]).notes[0].startswith("1 links lead to folders that were searched already")
