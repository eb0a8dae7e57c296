"""WebDataset shards as a stream: order, division, damage, and going on in the middle."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import InputError, UsageError
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.training.data.batches import TrainingBatch
from googlenet_deploy.training.data.pools import Workers
from googlenet_deploy.training.data.shards import (
    ShardFeed,
    count_images,
    find_shards,
    is_shards,
    read_shards,
    shards_hash,
    validation_stream,
)
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.options import TrainingOptions

ALONE = Processes(0, 1, torch.device("cpu"))
SPEC = Preprocessing(resize=32, crop=(32, 32))
CLASSES = ClassIndex(("cat", "dog", "owl"))
PLAIN = TrainingOptions(batch_size=4, augmentation="none", input_size=32)


def encoded(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((36, 40, 3), value, np.uint8)).save(stream, "png")
    return stream.getvalue()


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> tuple[str, ...]:
    """Three shards of four images; an image's grey tells which it is, its label is its number modulo 3."""
    paths = []
    for shard in range(3):
        numbers = range(shard * 4, shard * 4 + 4)
        files = {}
        for number in numbers:
            files[f"{number:03d}.png"] = encoded(number * 20)
            files[f"{number:03d}.cls"] = str(number % 3).encode()
        paths.append(str(write(tmp_path / f"train-{shard}.tar", files)))
    return tuple(paths)


def feed(
    shards: tuple[str, ...],
    images: int = 12,
    options: TrainingOptions = PLAIN,
    workers: Workers = Workers(1),  # noqa: B008 - immutable
    **more: Any,
) -> ShardFeed:
    return ShardFeed(shards, CLASSES, SPEC, options, images, 4, workers, **more)


def greys(batches: list[TrainingBatch]) -> list[int]:
    return [int(image[0, 0, 0]) // 20 for batch in batches for image in batch.pixels]


def test_every_image_comes_once_with_its_label_in_an_order_of_the_epoch(shards: tuple[str, ...]) -> None:
    batches = list(feed(shards).batches(1))
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]
    assert sorted(greys(batches)) == list(range(12))
    labels = torch.cat([batch.labels for batch in batches]).tolist()
    assert labels == [number % 3 for number in greys(batches)]
    again, other = list(feed(shards).batches(1)), list(feed(shards).batches(2))
    assert greys(again) == greys(batches) != greys(other)


def test_an_epoch_can_begin_at_any_step(shards: tuple[str, ...]) -> None:
    natural = TrainingOptions(batch_size=4, mixup=0.2, input_size=32)
    whole, rest = (list(feed(shards, options=natural).batches(3, first)) for first in (0, 2))
    assert len(rest) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole[2][:4], rest[0][:4], strict=True))


def test_processes_decode_what_threads_do(tmp_path: Path, shards: tuple[str, ...]) -> None:
    damaged = str(write(tmp_path / "d.tar", {"a.png": b"no image", "a.cls": b"0"}))
    natural = TrainingOptions(batch_size=4, mixup=0.2, input_size=32)
    streams = [feed((*shards, damaged), 12, natural, Workers(2, forked=forked)) for forked in (False, True)]
    with closing(streams[1]):
        threads, processes = (list(stream.batches(1)) for stream in streams)
    assert len(threads) == 3
    for ours, theirs in zip(threads, processes, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))
    assert streams[0].skipped == streams[1].skipped


def test_an_epoch_may_be_longer_than_the_shards(shards: tuple[str, ...]) -> None:
    counts = Counter(greys(list(feed(shards, images=24).batches(1))))
    assert set(counts.values()) == {2}
    assert len(counts) == 12


def test_processes_read_different_shards(shards: tuple[str, ...]) -> None:
    seen = []
    for rank in range(3):
        stream = feed(shards, rank=rank, processes=3)
        stream.size = 3
        seen.append(greys(list(stream.batches(1))))
    assert [{number // 4 for number in each} for each in seen].count({0}) == 1
    assert sorted(number for each in seen for number in each) == list(range(12))


def test_the_place_of_a_damaged_image_is_taken_by_another(tmp_path: Path, shards: tuple[str, ...]) -> None:
    files = {"b0.png": encoded(0)[:60], "b0.cls": b"0", "b1.png": encoded(100), "b1.cls": b"1"}
    damaged = str(write(tmp_path / "damaged.tar", files))
    stream = feed((*shards, damaged), images=14, options=TrainingOptions(batch_size=2, augmentation="none"))
    stream.size = 2
    for _ in range(2):
        batches = list(stream.batches(1))
        assert [len(batch.labels) for batch in batches] == [2] * 7
    assert [item.name for item in stream.skipped] == ["damaged.tar/b0"]
    alone = feed((damaged,), images=4, options=TrainingOptions(batch_size=2, augmentation="none"))
    assert greys(list(alone.batches(1))) == [5, 5, 5, 5]


def test_a_batch_of_damaged_images_is_an_error(tmp_path: Path) -> None:
    shard = str(write(tmp_path / "d.tar", {"a.png": b"no image", "a.cls": b"0"}))
    with pytest.raises(InputError, match=r"d.tar/a: .*not one image of its batch can be used"):
        list(feed((shard,), images=4).batches(1))


def test_validation_reads_in_order_and_leaves_damaged_images_out(tmp_path: Path, shards: tuple[str, ...]) -> None:
    damaged = str(write(tmp_path / "d.tar", {"a.png": b"no image", "a.cls": b"0"}))
    skipped: list[Any] = []
    stream = validation_stream((*shards, damaged), CLASSES, SPEC, batch_size=5, workers=Workers(2), skipped=skipped)
    batches = list(stream)
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert [int(image[0, 0, 0]) // 20 for images, _ in batches for image in images] == list(range(12))
    assert [item.name for item in skipped] == ["d.tar/a"]


def test_labels_may_be_names(tmp_path: Path) -> None:
    shard = str(write(tmp_path / "n.tar", {"a.png": encoded(0), "a.cls": b"owl\n"}))
    assert [sample.label for sample in read_shards([shard], CLASSES)] == [2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": b"x"}, "its sample a has no .cls file"),
        ({"a.cls": b"0"}, "its sample a has no image"),
        ({"a.png": b"x", "a.cls": b"bird"}, "its sample a is of class 'bird'"),
        ({"a.png": b"x", "a.cls": b"7"}, "its sample a is of class '7'"),
    ],
)
def test_samples_that_are_incomplete(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    shard = str(write(tmp_path / "s.tar", files))
    with pytest.raises(InputError, match=message) as caught:
        list(read_shards([shard], CLASSES))
    assert "s.tar" in caught.value.message


def test_a_damaged_shard_is_named(tmp_path: Path, shards: tuple[str, ...]) -> None:
    whole = Path(shards[1]).read_bytes()
    broken = tmp_path / "broken.tar"
    broken.write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"broken.tar: is damaged or cannot be read"):
        list(read_shards([shards[0], str(broken)], CLASSES))
    broken.write_bytes(b"no archive at all")
    with pytest.raises(InputError, match=r"broken.tar: is damaged or cannot be read"):
        count_images([str(broken)], ALONE)
    with pytest.raises(InputError, match=r"broken.tar: is damaged or cannot be read"):
        list(read_shards([str(broken)], CLASSES))
    broken.unlink()
    with pytest.raises(InputError, match="broken"):
        list(read_shards([str(broken)], CLASSES))


def test_counting(tmp_path: Path, shards: tuple[str, ...]) -> None:
    assert count_images(shards, ALONE) == 12
    with pytest.raises(UsageError, match="--epoch-images"):
        count_images(["pipe:cat x.tar"], ALONE)
    with pytest.raises(InputError, match="contains no images"):
        count_images([str(write(tmp_path / "e.tar", {"readme.txt": b"x"}))], ALONE)


def test_what_a_pipe_gives_is_read(shards: tuple[str, ...]) -> None:
    assert len(list(read_shards([f"pipe:cat {shards[0]}"], CLASSES))) == 4


def test_finding_shards(tmp_path: Path, shards: tuple[str, ...]) -> None:
    folder = str(tmp_path)
    for place in (folder, f"{folder}/train-*.tar", f"{folder}/train-{{0..2}}.tar"):
        assert is_shards(place)
        assert find_shards(place) == shards
    assert find_shards(shards[1]) == shards[1:2]
    assert is_shards("pipe:curl x")
    assert find_shards("https://x/y-{00..01}.tar") == ("https://x/y-00.tar", "https://x/y-01.tar")
    assert not is_shards(str(tmp_path / "images"))
    with pytest.raises(InputError, match="names no shards"):
        find_shards(folder, "val*.tar")
    with pytest.raises(InputError, match=r"train-3.tar: is missing"):
        find_shards(f"{folder}/train-{{2..3}}.tar")


def test_the_hash_sees_names_and_sizes(tmp_path: Path, shards: tuple[str, ...]) -> None:
    before = shards_hash(shards)
    assert before == shards_hash(shards)
    assert before != shards_hash(shards[:2])
    write(Path(shards[0]), {"a.png": b"x" * 20_000})
    assert before != shards_hash(shards)
    assert shards_hash(["pipe:cat a.tar"]) != shards_hash(["pipe:cat b.tar"])


def test_a_stream_ends_where_the_epoch_does(shards: tuple[str, ...]) -> None:
    assert len(list(itertools.islice(feed(shards, images=5).batches(1), 10))) == 1


def test_a_damaged_shard_is_said_in_one_line(tmp_path: Path) -> None:
    shard = tmp_path / "t.tar"
    shard.write_bytes(b"damaged")
    for use in (lambda: count_images([str(shard)], ALONE), lambda: list(read_shards([str(shard)], CLASSES))):
        with pytest.raises(InputError, match=r"t\.tar: is damaged or cannot be read: ") as caught:
            use()
        assert not set("\n(<") & set(caught.value.message)
