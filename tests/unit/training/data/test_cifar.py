"""CIFAR's archives, made small: both versions, damaged ones, and pickles that want to run code."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.errors import InputError
from googlenet_deploy.training.data.cifar import is_cifar, read_cifar

NAMES = ("cat", "dog", "ship")
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def pictures(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32), np.uint8), [index % 3 for index in range(count)]


def binary_files(coarse: bool = False) -> dict[str, bytes]:
    """The files of the binary version; CIFAR-100 has two labels per record, the coarse one first."""

    def records(count: int, seed: int) -> bytes:
        images, labels = pictures(count, seed)
        rows = [(bytes([9]) if coarse else b"") + bytes([y]) + x.tobytes() for x, y in zip(images, labels, strict=True)]
        return b"".join(rows)

    names = "\n".join(NAMES).encode() + b"\n\n"
    if coarse:
        return {"fine_label_names.txt": names, "train.bin": records(6, 0), "test.bin": records(3, 9)}
    batches = {f"{name}.bin": records(3, seed) for seed, name in enumerate(BATCHES)}
    return {"batches.meta.txt": names, **batches, "test_batch.bin": records(3, 9)}


def pickled_files(protocol: int = 2) -> dict[str, bytes]:
    def batch(count: int, seed: int) -> bytes:
        images, labels = pictures(count, seed)
        return pickle.dumps({b"data": images.reshape(count, -1), b"labels": labels, b"batch_label": b"x"}, protocol)

    batches = {name: batch(3, seed) for seed, name in enumerate(BATCHES)}
    return {
        "batches.meta": pickle.dumps({b"label_names": [n.encode() for n in NAMES]}, 2),
        **batches,
        "test_batch": batch(3, 9),
    }


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "files", [binary_files(), pickled_files(), pickled_files(4)], ids=["binary", "python", "protocol 4"]
)
@pytest.mark.parametrize("name", ["cifar-10.tar.gz", "cifar-10.tar"])
def test_images_and_labels_are_those_written(files: dict[str, bytes], name: str, tmp_path: Path) -> None:
    place = str(write(tmp_path / name, files))
    assert is_cifar(place)
    data = read_cifar(place)
    assert data.classes == NAMES
    assert (len(data.train), len(data.validation)) == (15, 3)
    images, labels = pictures(3, 9)
    for sample, pixels, label in zip(data.validation, images, labels, strict=True):
        decoded = np.asarray(load_image(sample.path.read_bytes(), name=str(sample.path), mode="RGB"))
        np.testing.assert_array_equal(decoded, pixels.transpose(1, 2, 0))
        assert sample.label == label


def test_the_fine_labels_of_cifar_100(tmp_path: Path) -> None:
    data = read_cifar(str(write(tmp_path / "cifar-100-binary.tar.gz", binary_files(coarse=True))))
    assert [sample.label for sample in data.train] == [0, 0, 1, 1, 2, 2]


def test_an_unpacked_folder(tmp_path: Path) -> None:
    for name, content in pickled_files().items():
        (tmp_path / name).write_bytes(content)
    assert is_cifar(str(tmp_path))
    assert len(read_cifar(str(tmp_path)).train) == 15


def test_other_archives_are_not_taken(tmp_path: Path) -> None:
    assert not is_cifar(str(tmp_path))
    assert not is_cifar("train-000.tar")
    with pytest.raises(InputError, match="none of the files of CIFAR"):
        read_cifar(str(write(tmp_path / "photos.tar.gz", {"a.jpg": b"x"})))


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("content", [lambda p: {b"data": p}, lambda p: p, lambda p: [p]])
def test_a_pickle_that_wants_to_run_code(content: Callable[[Payload], Any], tmp_path: Path) -> None:
    evil = pickle.dumps(content(Payload(tmp_path / "evidence")))
    path = write(tmp_path / "cifar-10-python.tar.gz", {**pickled_files(), "data_batch_3": evil})
    with pytest.raises(InputError, match=r"data_batch_3 is refused: it contains \w+\.mkdir, which would run code"):
        read_cifar(str(path))
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("data_batch_4.bin"), "lacks data_batch_4.bin of CIFAR-10"),
        (lambda f: f.pop("test_batch.bin"), "lacks test_batch.bin"),
        (lambda f: f.update({"data_batch_2.bin": f["data_batch_2.bin"][:-7]}), "not whole records of 3073"),
        (lambda f: f.update({"data_batch_2.bin": b""}), "cut short"),
        (lambda f: f.update({"test_batch.bin": b"\x07" + f["test_batch.bin"][1:]}), "label 7, there are 3 classes"),
        (lambda f: f.update({"batches.meta.txt": b"\xff\xfe"}), "not a text of class names"),
        (lambda f: f.update({"batches.meta.txt": b"cat\ncat\n"}), "does not name the classes"),
        (lambda f: f.update({"batches.meta.txt": b"cat\ndog\nship\nfrog\n"}), "class frog has no usable images"),
    ],
)
def test_damaged_files(change: Callable[[dict[str, bytes]], Any], words: str, tmp_path: Path) -> None:
    files = binary_files()
    change(files)
    with pytest.raises(InputError, match=words) as caught:
        read_cifar(str(write(tmp_path / "cifar-10-binary.tar.gz", files)))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("name", ["cifar-10.tar.gz", "cifar-10.tar"])
def test_archives_cut_short(share: float, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, binary_files())
    content = path.read_bytes().rstrip(b"\0") if name.endswith(".tar") else path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"cut short|incomplete|none of the files|damaged"):
        read_cifar(str(path))


def flipped(content: bytes, index: int) -> bytes:
    changed = bytearray(content)
    changed[index] ^= 255
    return bytes(changed)


@pytest.mark.parametrize(
    "change",
    [lambda c: c[:-4], lambda c: c[:-9], lambda c: flipped(c, -6), lambda c: b"", lambda c: b"<html>" * 99],
    ids=["no length", "no checksum", "another checksum", "nothing", "a page of the server"],
)
def test_an_archive_with_every_image_and_another_end(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "cifar-10.tar.gz", binary_files())
    read_cifar(str(path))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match="is damaged or cut short") as caught:
        read_cifar(str(path))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"cos\nsystem\n.", pickle.dumps([1]), pickle.dumps({b"data": 5, b"labels": []}),
     pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}),
     pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}),
     pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["a"]})],
)  # fmt: skip
def test_damaged_pickles(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "cifar-10-python.tar.gz", {**pickled_files(), "data_batch_1": content})
    with pytest.raises(InputError, match="data_batch_1"):
        read_cifar(str(path))
