from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.device.benchmark.inputs import (
    SYNTHETIC_COUNT,
    frame_inputs,
    make_batches,
    real_inputs,
    synthetic_inputs,
)
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.errors import GoogLeNetDeployError, UsageError

from .conftest import SMALL


def write(folder: Path, count: int) -> list[ImageSource]:
    sources = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (20, 16), (index, 2 * index, 3)).save(path)
        sources.append(ImageSource(str(path)))
    return sources


def test_synthetic_images_depend_on_the_seed_alone() -> None:
    first, again, other = (synthetic_inputs(seed, SMALL) for seed in (3, 3, 4))
    assert first == again
    assert first.sha256 != other.sha256
    assert len({image.data for image in first.images}) == SYNTHETIC_COUNT


def test_synthetic_images_are_like_photographs() -> None:
    for image in synthetic_inputs(0, BVLC).images:
        assert image.data is not None
        assert 15_000 < len(image.data) < 200_000
        decoded = Image.open(io.BytesIO(image.data))
        assert (decoded.format, decoded.size, decoded.mode) == ("JPEG", (500, 375), "RGB")
        assert np.asarray(decoded).std() > 20


def test_synthetic_images_are_grey_for_a_grey_network_and_never_below_the_crop() -> None:
    spec = Preprocessing(resize=None, crop=(600, 700), channels="L", mean=(0.5,), std=(0.5,))
    image = Image.open(io.BytesIO(synthetic_inputs(0, spec).images[0].data or b""))
    assert (image.size, image.mode) == ((700, 600), "L")


def test_real_images_are_held_in_memory_up_to_a_limit(tmp_path: Path) -> None:
    inputs = real_inputs(write(tmp_path, 5), SMALL, "pillow", 3)
    assert [Path(image.name).name for image in inputs.images] == ["0.png", "1.png", "2.png"]
    assert inputs.images[0].data == (tmp_path / "0.png").read_bytes()
    assert inputs.to_dict()["kind"] == "real"
    assert inputs.to_dict()["seed"] is None


def test_images_that_cannot_be_used_are_told_and_left_out(tmp_path: Path) -> None:
    sources = write(tmp_path, 2)
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    bad = [ImageSource(str(tmp_path / name)) for name in ("empty.jpg", "gone.jpg", "small.png")]
    inputs = real_inputs([*bad, *sources], Preprocessing(resize=None, crop=(8, 8)), "pillow", 9)
    assert len(inputs.images) == 2
    assert [item.reason for item in inputs.skipped] == [
        "is empty",
        "cannot be read: no such file or directory",
        "an image of 4 x 4 pixels is smaller than the crop of 8 x 8",
    ]


def test_no_images_and_no_usable_images(tmp_path: Path) -> None:
    with pytest.raises(GoogLeNetDeployError, match="no images found"):
        real_inputs([], SMALL, "pillow", 9)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(GoogLeNetDeployError, match=r"no image can be used \(1 skipped\)") as error:
        real_inputs([ImageSource(str(tmp_path / "broken.jpg"))], SMALL, "pillow", 9)
    assert "broken.jpg: is not an image" in (error.value.remedy or "")


@pytest.mark.parametrize(("size", "count"), [(1, 4), (2, 2), (5, 1), (12, 1)])
def test_batches_repeat_images_where_there_are_too_few(size: int, count: int, tmp_path: Path) -> None:
    batches = make_batches(real_inputs(write(tmp_path, 5), SMALL, "pillow", 5), SMALL, "pillow", size)
    assert [array.shape for _, array in batches] == [(size, 3, 8, 8)] * count
    assert [len(images) for images, _ in batches] == [size] * count
    if size == 12:
        np.testing.assert_array_equal(batches[0][1][:5], batches[0][1][5:10])


def test_raw_frames_show_the_network_the_same_images() -> None:
    spec = Preprocessing(resize=40, crop=(32, 32))
    encoded = synthetic_inputs(3, spec)
    frames = frame_inputs(encoded, spec, (90, 160), "pillow")
    assert {image.pixels.shape for image in frames.images if image.pixels is not None} == {(90, 160, 3)}
    described = frames.to_dict()
    assert described["frame"] == [90, 160]
    assert described["bytes"] == len(frames.images) * 90 * 160 * 3
    assert described["sha256"] != encoded.to_dict()["sha256"]
    ((_, direct),) = make_batches(encoded._replace(images=encoded.images[:1]), spec, "pillow", 1)
    ((_, through),) = make_batches(frames._replace(images=frames.images[:1]), spec, "pillow", 1)
    assert np.abs(direct - through).mean() < 0.25, "in units of the standard deviation"
    taken = spec.with_frame_input((90, 160))
    ((sources, batch),) = make_batches(frame_inputs(encoded, taken, (90, 160), "pillow"), taken, "pillow", 8)
    np.testing.assert_array_equal(batch[3], sources[3].pixels)
    with pytest.raises(UsageError, match="the model accepts RGB frames of 90 x 160"):
        frame_inputs(encoded, taken, (72, 128), "pillow")
