from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.samples import to_eight_bits
from googlenet_deploy.errors import BadImageError

# Left half red, upper right green, lower right blue: every rotation and mirroring looks different.
PICTURE = np.zeros((16, 24, 3), np.uint8)
PICTURE[:, :12, 0] = 255
PICTURE[:8, 12:, 1] = 255
PICTURE[8:, 12:, 2] = 255


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(PICTURE).convert(mode)


def pixels(data: bytes, mode: str = "RGB") -> np.ndarray:
    return np.asarray(load_image(data, mode=mode))


LOSSLESS: dict[str, Callable[[], bytes]] = {
    "RGB PNG": lambda: encoded(picture(), "PNG"),
    "palette PNG": lambda: encoded(picture("P"), "PNG"),
    "palette PNG with transparency": lambda: encoded(picture("P"), "PNG", transparency=b"\x00\x80\xff"),
    "RGBA PNG": lambda: encoded(picture("RGBA"), "PNG"),
    "GIF": lambda: encoded(picture("P"), "GIF"),
    "BMP": lambda: encoded(picture(), "BMP"),
    "PPM": lambda: encoded(picture(), "PPM"),
    "WebP": lambda: encoded(picture(), "WEBP", lossless=True),
    "TIFF": lambda: encoded(picture(), "TIFF"),
    "LZW TIFF": lambda: encoded(picture(), "TIFF", compression="tiff_lzw"),
    "CMYK TIFF": lambda: encoded(picture("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_kind_gives_the_same_pixels(kind: str) -> None:
    np.testing.assert_array_equal(pixels(LOSSLESS[kind]()), PICTURE)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_jpeg_gives_nearly_the_same_pixels(mode: str) -> None:
    got = pixels(encoded(picture(mode), "JPEG", quality=100, subsampling=0))
    assert np.abs(got.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """The stored pixels are turned the other way first, so that each file shows the same picture."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture().transpose(undo[orientation]) if orientation in undo else picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(stored, "PNG", exif=exif)), PICTURE)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_samples_keep_their_upper_eight_bits(form: str) -> None:
    samples = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    got = pixels(encoded(Image.fromarray(samples), form), "L")
    np.testing.assert_array_equal(got.ravel(), np.arange(256))


def test_sixteen_bit_samples_of_old_pillows_mode_i() -> None:
    samples = np.array([[0, 255, 256, 65535]], np.int32)
    image = Image.fromarray(samples, "I")
    np.testing.assert_array_equal(np.asarray(to_eight_bits(image, "x.png", wide=False)), [[0, 0, 1, 255]])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[0, 7, 255]], np.int32), [[0, 7, 255]]),
        (np.array([[0, 255, 256, 65535]], np.int32), [[0, 0, 1, 255]]),
        (np.array([[0, 0, 0]], np.int32), [[0, 0, 0]]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [[0, 128, 255]]),
        (np.array([[0.0, 100.4, 254.6]], np.float32), [[0, 100, 255]]),
        (np.array([[0.0, 512.0, 65535.0]], np.float32), [[0, 2, 255]]),
    ],
)
def test_wide_samples_are_scaled_by_the_range_that_they_fill(samples: Any, expected: list[list[int]]) -> None:
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(samples), "TIFF"), "L"), expected)


def test_the_range_of_wide_samples_is_said_once_per_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("googlenet_deploy.device.images.samples._said", set())
    for high in (1.0, 1.0, 200.0):
        load_image(encoded(Image.new("F", (4, 4), high), "TIFF"), name="scan.tif")
    assert [record.getMessage() for record in caplog.records] == [
        "note: scan.tif: its floating-point samples were taken as values 0..1, as in all images like it",
        "note: scan.tif: its floating-point samples were taken as values 0..255, as in all images like it",
    ]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.array([[0, 70000]], np.int32), "32-bit integer samples run from 0 to 70000"),
        (np.array([[-3, 7]], np.int32), "32-bit integer samples run from -3 to 7"),
        (np.array([[-1.0, 1.0]], np.float32), "floating-point samples run from -1 to 1"),
        (np.array([[np.nan, 1.0]], np.float32), "not finite"),
        (np.array([[np.inf, 1.0]], np.float32), "not finite"),
    ],
)
def test_wide_samples_of_no_known_range_are_refused(samples: Any, words: str) -> None:
    refuse(encoded(Image.fromarray(samples), "TIFF"), words)


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one chunk more behind its header."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + struct.pack(">I", len(content)) + kind + content + checksum + data[33:]


BROKEN_EXIF = (
    b"",
    b"Exif\0\0",
    b"II*\0\xff\xff\xff\x7f",
    b"\0\x08\0\2\1\x12\0\3\0\0\0\1\0\1\0\0",
    b"II+\0\x08\0\0\0",
    b"MM",
)


@pytest.mark.parametrize("exif", BROKEN_EXIF, ids=range(len(BROKEN_EXIF)))
def test_a_broken_exif_block_does_not_damage_the_pixels(exif: bytes) -> None:
    plain = encoded(picture(), "JPEG", quality=95)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    np.testing.assert_array_equal(pixels(plain[:2] + segment + plain[2:]), pixels(plain))
    np.testing.assert_array_equal(pixels(with_chunk(encoded(picture(), "PNG"), b"eXIf", exif)), PICTURE)
    webp = encoded(picture(), "WEBP", lossless=True, exif=b"Exif\0\0" + exif)
    np.testing.assert_array_equal(pixels(webp), PICTURE)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
def test_megabytes_of_text_do_not_damage_the_pixels(kind: bytes) -> None:
    long = b"A" * (3 << 20)
    content = {
        b"tEXt": b"Comment\0" + long,
        b"zTXt": b"Comment\0\0" + zlib.compress(long),
        b"iTXt": b"parameters\0\1\0\0\0" + zlib.compress(long),
        b"iCCP": b"profile\0\0" + zlib.compress(long)[:-5],
    }[kind]
    np.testing.assert_array_equal(pixels(with_chunk(encoded(picture(), "PNG"), kind, content)), PICTURE)


def test_a_truncated_file_with_broken_metadata_is_still_refused() -> None:
    data = with_chunk(encoded(picture(), "PNG"), b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * (3 << 20)))
    refuse(data[:-30], "damaged|truncated")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which needs pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC, which needs pillow-heif"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404", "HTML page"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "AppleDouble"),
    ],
)
def test_other_files_are_called_by_name(head: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("googlenet_deploy.device.images.decode._register_heif", lambda: False)
    refuse(head, words)


def test_heic_is_read_where_pillow_heif_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    large = Image.fromarray(np.full((64, 64, 3), (200, 30, 60), np.uint8))
    heif.from_pillow(large).save(stream, quality=95)
    got = pixels(stream.getvalue()).astype(int)
    assert got.shape == (64, 64, 3)
    assert np.abs(got - (200, 30, 60)).max() < 12


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encoded(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    np.testing.assert_array_equal(pixels(data), np.full((8, 8, 3), (255, 0, 0)))


def test_grey_and_colour_convert_into_each_other() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(grey), "PNG")), np.dstack([grey] * 3))
    assert pixels(LOSSLESS["RGB PNG"](), "L").shape == (16, 24)
    assert pixels(encoded(picture("1"), "PNG"), "L").max() == 255


def test_files_and_paths_are_read_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "picture.dat"  # the content decides, not the suffix
    path.write_bytes(LOSSLESS["RGB PNG"]())
    for source in (path, str(path)):
        np.testing.assert_array_equal(np.asarray(load_image(source)), PICTURE)


def refuse(data: bytes | Path, words: str, **options: Any) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        load_image(data, name="holiday.jpg", **options)
    assert caught.value.path == "holiday.jpg"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"just some text", "is not an image of a known format"),
        (b"\xff\xd8\xff\xe0 no jpeg at all", "is damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, words: str) -> None:
    refuse(data, words)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.jpg", "cannot be read: no such file or directory")
    refuse(tmp_path, "cannot be read: is a directory")
    (tmp_path / "empty.jpg").write_bytes(b"")
    refuse(tmp_path / "empty.jpg", "is empty")


def test_without_a_name_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="image: is empty"):
        load_image(b"")
    with pytest.raises(BadImageError, match=str(tmp_path / "none")):
        load_image(tmp_path / "none")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated_images_are_refused(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))
    data = encoded(noise, form)
    refuse(data[: len(data) * 2 // 3], "truncated|damaged|not an image")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that states a size and holds one line of zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000), (1, 2_000_000_000)])
def test_decompression_bombs_are_refused_unopened(size: tuple[int, int], recwarn: pytest.WarningsRecorder) -> None:
    refuse(bomb(*size), "more than the limit of 89478485|larger than 89478485 pixels")


def test_the_limit_can_be_set() -> None:
    refuse(LOSSLESS["RGB PNG"](), "is 24 x 16 pixels, more than the limit of 383", max_pixels=383)
    assert load_image(LOSSLESS["RGB PNG"](), max_pixels=384).size == (24, 16)


SEEDS = [
    encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    encoded(picture(), "TIFF", compression="jpeg"),
    *(make() for make in LOSSLESS.values()),
]


@pytest.mark.filterwarnings("ignore")  # pytest puts its own filters in the place of ours
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_bytes_give_an_image_or_one_error(data: bytes, draw: st.DataObject) -> None:
    content = bytearray(data[: draw.draw(st.integers(len(data) // 2, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(BadImageError):
        assert load_image(bytes(content), name="x").mode == "RGB"


def test_damaged_tiffs_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(LOSSLESS["LZW TIFF"]())
    data[8:40] = b"\xa5" * 32
    refuse(bytes(data), "damaged")
    assert capfd.readouterr() == ("", "")
