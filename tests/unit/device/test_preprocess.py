from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from googlenet_deploy.device.images.nv12 import from_nv12
from googlenet_deploy.device.preprocess import crop_pixels, normalize, preprocess, resized_size
from googlenet_deploy.device.specification import BVLC, INTERPOLATIONS, TORCHVISION, Preprocessing
from googlenet_deploy.errors import UsageError

RAW = Preprocessing(resize=8, crop=(8, 8)).with_uint8_input()
_FILTERS = {name: getattr(Image.Resampling, name.upper()) for name in INTERPOLATIONS}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def step_by_step(image: Image.Image, spec: Preprocessing) -> np.ndarray:
    """The documented geometry written down naively: the whole image is resized, then cropped."""
    short = min(image.size)
    assert spec.resize is not None
    resized = image.resize(
        (round(spec.resize * image.width / short), round(spec.resize * image.height / short)),
        _FILTERS[spec.interpolation],
    )
    height, width = spec.crop
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (100, 90), (256, 256), (300, 1000)])
def test_pixels_are_those_of_resizing_and_cropping_one_after_the_other(
    size: tuple[int, int], interpolation: str
) -> None:
    spec = replace(Preprocessing(), interpolation=interpolation)
    image = noise(*size).resize(size)
    got = crop_pixels(image, spec).astype(int)
    assert got.shape == (224, 224, 3)
    difference = np.abs(got - step_by_step(image, spec))
    if interpolation == "nearest":  # a rounding at half a pixel may fall either way
        assert (difference > 0).mean() < 0.02
    else:
        assert difference.max() <= 1


def test_values_are_scaled_and_centred_per_channel_in_the_stated_order() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    spec = Preprocessing(resize=2, crop=(2, 2), channels="BGR", scale=0.5, mean=(1, 2, 3), std=(2, 4, 8))
    got = normalize(pixels, spec)
    assert got.dtype == np.float32
    assert got.shape == (3, 2, 2)
    np.testing.assert_allclose(got[:, 0, 0], [(15 - 1) / 2, (10 - 2) / 4, (5 - 3) / 8])


@given(st.sampled_from(["RGB", "BGR", "L"]), st.sampled_from(["NCHW", "NHWC"]), st.integers(0, 1000))
def test_normalisation_is_the_formula(channels: str, layout: str, seed: int) -> None:
    count = len(channels)
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (5, 7, count), np.uint8)
    mean, std = generator.uniform(0, 200, count), generator.uniform(0.5, 80, count)
    spec = Preprocessing(
        resize=None, crop=(5, 7), channels=channels, scale=0.7, mean=tuple(mean), std=tuple(std), layout=layout
    )
    ordered = pixels[:, :, ::-1] if channels == "BGR" else pixels
    expected = (ordered.astype(np.float64) * 0.7 - mean) / std
    got = normalize(pixels, spec)
    assert got.shape == spec.input_shape
    assert got.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(got if layout == "NHWC" else got.transpose(1, 2, 0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_uint8_keeps_the_pixels(layout: str) -> None:
    image = noise(8, 8)
    got = preprocess(image, replace(RAW, layout=layout))
    assert got.dtype == np.uint8
    assert got.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(got if layout == "NHWC" else got.transpose(1, 2, 0), np.asarray(image))


def test_grey_images_have_one_channel() -> None:
    spec = Preprocessing(resize=8, crop=(6, 8), channels="L", mean=(0.5,), std=(0.5,))
    got = preprocess(noise(20, 10).convert("L"), spec)
    assert got.shape == (1, 6, 8)


@pytest.mark.parametrize(
    ("size", "resized"),
    [((500, 375), (341, 256)), ((375, 500), (256, 341)), ((100, 100), (256, 256)), ((3, 1000), (256, 85333))],
)
def test_the_long_side_is_rounded(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_size(*size, BVLC) == resized


def test_without_a_resize_the_image_is_only_cropped() -> None:
    image = noise(20, 12)
    spec = replace(RAW, resize=None, crop=(10, 14))
    np.testing.assert_array_equal(preprocess(image, spec), np.asarray(image)[1:11, 3:17])


def test_an_image_smaller_than_the_crop_is_refused_if_it_may_not_be_resized() -> None:
    spec = replace(RAW, resize=None, crop=(10, 14))
    with pytest.raises(UsageError, match="an image of 13 x 12 pixels is smaller than the crop of 14 x 10"):
        preprocess(noise(13, 12), spec)


STRETCH = Preprocessing(resize=None, crop=(96, 128), resize_mode="stretch")
LETTERBOX = Preprocessing(resize=None, crop=(96, 128), resize_mode="letterbox", fill=(10, 20, 30))


@pytest.mark.parametrize("size", [(500, 375), (60, 300), (128, 96), (100, 40)])
def test_stretch_is_a_plain_resize_to_the_crop(size: tuple[int, int]) -> None:
    image = noise(*size)
    np.testing.assert_array_equal(
        crop_pixels(image, STRETCH), np.asarray(image.resize((128, 96), _FILTERS["bilinear"]))
    )


def test_stretch_to_a_size_ahead_of_the_crop() -> None:
    image = noise(300, 200)
    spec = replace(STRETCH, resize=(110, 150))
    whole = np.asarray(image.resize((150, 110), _FILTERS["bilinear"]))
    np.testing.assert_allclose(crop_pixels(image, spec).astype(int), whole[7 : 7 + 96, 11 : 11 + 128], atol=1)


@pytest.mark.parametrize(("size", "inner"), [((500, 375), (128, 96)), ((400, 100), (128, 32)), ((50, 200), (24, 96))])
def test_a_letterbox_holds_the_whole_image_between_bars(size: tuple[int, int], inner: tuple[int, int]) -> None:
    image = noise(*size)
    got = crop_pixels(image, LETTERBOX)
    expected = Image.new("RGB", (128, 96), (10, 20, 30))
    expected.paste(image.resize(inner, _FILTERS["bilinear"]), ((128 - inner[0]) // 2, (96 - inner[1]) // 2))
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_a_crop_out_of_a_letterbox_cuts_image_and_bars() -> None:
    image = noise(300, 100)
    spec = replace(LETTERBOX, resize=(120, 150))  # the image is 150 x 50 in it, 35 rows below the upper edge
    got = crop_pixels(image, spec)
    resized = np.asarray(image.resize((150, 50), _FILTERS["bilinear"])).astype(int)
    assert got.shape == (96, 128, 3)
    assert (got[:23] == (10, 20, 30)).all()
    assert (got[73:] == (10, 20, 30)).all()
    np.testing.assert_allclose(got[23:73].astype(int), resized[:, 11 : 11 + 128], atol=1)


def test_bars_of_a_grey_image_and_of_one_value() -> None:
    grey = replace(LETTERBOX, channels="L", mean=(0.5,), std=(0.5,), fill=(77,))
    assert (crop_pixels(noise(400, 100).convert("L"), grey)[:32] == 77).all()
    assert (crop_pixels(noise(400, 100), replace(LETTERBOX, fill=(114,)))[:32] == 114).all()


def test_bars_are_normalised_like_pixels() -> None:
    spec = replace(LETTERBOX, channels="BGR", scale=1.0, mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(preprocess(noise(400, 100), spec)[:, 0, 0], (30 - 1, 20 - 2, 10 - 3))


@settings(max_examples=60)
@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from(["stretch", "letterbox"]), st.booleans(),
    st.integers(0, 9), st.sampled_from(INTERPOLATIONS),
)  # fmt: skip
def test_any_image_fits_any_mode(
    width: int, height: int, mode: str, antialias: bool, margin: int, interpolation: str
) -> None:
    spec = Preprocessing(
        resize=(13 + margin, 17 + margin), crop=(13, 17), resize_mode=mode, antialias=antialias,
        interpolation=interpolation,
    )  # fmt: skip
    assert preprocess(noise(width, height), spec).shape == (3, 13, 17)


def test_without_antialiasing_pixels_between_are_not_seen() -> None:
    stripes = np.zeros((8, 80, 3), np.uint8)
    stripes[:, 4::10] = stripes[:, 5::10] = 200  # where the centres of the 8 output pixels are
    image, spec = Image.fromarray(stripes), Preprocessing(resize=None, crop=(8, 8), resize_mode="stretch")
    assert (crop_pixels(image, replace(spec, antialias=False)) == 200).all()
    antialiased = crop_pixels(image, spec)
    assert 20 < antialiased.mean() < 80


def test_nearest_without_antialiasing_takes_the_corner_as_opencv_and_cuda_programs_do() -> None:
    row = np.repeat(np.arange(100, dtype=np.uint8)[np.newaxis, :, np.newaxis], 3, axis=2)
    spec = Preprocessing(resize=None, crop=(1, 7), resize_mode="stretch", interpolation="nearest", antialias=False)
    got = crop_pixels(Image.fromarray(row), spec)[0, :, 0]
    assert got.tolist() == [int(np.float32(x) * np.float32(100 / 7)) for x in range(7)]


@pytest.mark.parametrize("mode", ["short-side", "stretch", "letterbox"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_without_antialiasing_both_backends_give_the_same_pixels(mode: str, interpolation: str) -> None:
    pytest.importorskip("cv2")
    spec = Preprocessing(resize=110, crop=(96, 96), resize_mode=mode, interpolation=interpolation, antialias=False)
    for size in ((500, 375), (70, 200), (110, 110)):
        image = noise(*size)
        ours, theirs = (crop_pixels(image, spec, backend).astype(int) for backend in ("pillow", "opencv"))
        np.testing.assert_allclose(ours, theirs, atol=1)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown image backend 'cairo': choose pillow or opencv"):
        preprocess(noise(8, 8), RAW, "cairo")


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), st.integers(0, 20))
def test_any_image_fits_any_crop(width: int, height: int, crop_height: int, crop_width: int, margin: int) -> None:
    spec = replace(TORCHVISION, resize=max(crop_height, crop_width) + margin, crop=(crop_height, crop_width))
    got = preprocess(noise(width, height), spec)
    assert got.shape == (3, crop_height, crop_width)
    assert np.abs(got).max() <= 1.0


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_line_is_an_image_too(size: tuple[int, int]) -> None:
    assert preprocess(noise(*size), BVLC).shape == (3, 224, 224)


def test_same_bytes_whichever_thread_and_time() -> None:
    image = noise(333, 250)
    assert preprocess(image, BVLC).tobytes() == preprocess(image, BVLC).tobytes()


@pytest.mark.parametrize("size", [(160, 90), (100, 75), (75, 100), (320, 180), (64, 64)])
def test_an_image_as_a_frame_shows_the_network_the_same(size: tuple[int, int]) -> None:
    spec = Preprocessing(resize=40, crop=(32, 32))
    ramp = np.add.outer(np.linspace(0, 120, size[1]), np.linspace(0, 120, size[0]))
    image = Image.fromarray(np.repeat(ramp[:, :, np.newaxis], 3, axis=2).astype(np.uint8))
    frame = crop_pixels(image, spec.with_frame_input((90, 160)))
    assert frame.shape == (90, 160, 3)
    direct, through = crop_pixels(image, spec), crop_pixels(Image.fromarray(frame), spec)
    # The odd pixel of a border may be on the other side: half a frame's pixel, of which each is at most 3 levels.
    assert np.abs(direct.astype(int) - through).max() <= 3


def test_frames_that_an_image_cannot_become() -> None:
    boxed = Preprocessing(resize=(32, 32), crop=(32, 32), resize_mode="letterbox").with_frame_input((90, 160))
    assert crop_pixels(Image.new("RGB", (320, 180)), boxed).shape == (90, 160, 3)
    with pytest.raises(UsageError, match="100 x 75 pixels has another shape than the frames of 160 x 90"):
        crop_pixels(Image.new("RGB", (100, 75)), boxed)
    kept = Preprocessing(resize=None, crop=(32, 32)).with_frame_input((90, 160))
    with pytest.raises(UsageError, match="smaller than the crop"):
        crop_pixels(Image.new("RGB", (31, 40)), kept)
    pixels = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    np.testing.assert_array_equal(crop_pixels(Image.fromarray(pixels), kept)[25:65, 55:105], pixels)


@pytest.mark.parametrize(("matrix", "code"), [("bt601", "COLOR_YUV2RGB_NV12")])
def test_nv12_and_back_as_opencv_has_it(matrix: str, code: str) -> None:
    cv2 = pytest.importorskip("cv2")
    spec = Preprocessing(resize=8, crop=(8, 8)).with_frame_input((16, 24), "nv12")
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)).resize((24, 16))
    frame = preprocess(image, spec)
    assert (frame.shape, frame.dtype) == ((24, 24, 1), np.uint8)
    colours = cv2.cvtColor(frame[:, :, 0], getattr(cv2, code)).astype(int)
    assert np.abs(colours - from_nv12(frame, matrix)).max() <= 1
    luma = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2YUV_I420)[:16]
    assert np.abs(frame[:16, :, 0].astype(int) - luma).max() <= 1
