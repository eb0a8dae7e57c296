"""What a model with a uint8 input still needs to be told."""

from __future__ import annotations

import pytest

from googlenet_deploy.device.preprocessing_options import PreprocessingOptions, choose_preprocessing
from googlenet_deploy.errors import UsageError


@pytest.mark.parametrize(
    ("options", "shape", "resize", "layout"),
    [
        (PreprocessingOptions(resize=72), (None, 64, 64, 3), 72, "NHWC"),
        (PreprocessingOptions(resize_mode="stretch"), (1, 64, 48, 3), None, "NHWC"),
        (PreprocessingOptions(crop=(64, 64)), (1, 3, 64, 64), 73, "NCHW"),
    ],
)
def test_a_uint8_input_takes_pixels_as_they_are(
    options: PreprocessingOptions, shape: tuple[int | None, ...], resize: int | None, layout: str
) -> None:
    spec = choose_preprocessing(options, "m.onnx", None, shape, dtype="uint8")
    assert (spec.dtype, spec.scale, spec.mean, spec.std) == ("uint8", 1.0, (0.0,) * 3, (1.0,) * 3)
    assert (spec.resize, spec.layout) == (resize, layout)
    assert spec.crop == tuple(side for side in shape if side not in (1, 3, None))


def test_it_needs_its_geometry() -> None:
    with pytest.raises(UsageError, match="accepts uint8 pixels as they are, but does not state how images are resized"):
        choose_preprocessing(None, "m.onnx", None, (1, 64, 64, 3), dtype="uint8")
    with pytest.raises(UsageError, match="does not state how its images are prepared"):
        choose_preprocessing(PreprocessingOptions(resize=72), "m.onnx", None, (1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "dtype", "remedy"),
    [
        (PreprocessingOptions(crop=(64, 64), mean=(0.5,) * 3), "uint8", "leave --scale"),
        (PreprocessingOptions(preprocessing="imagenet"), "uint8", "leave --scale"),
        (PreprocessingOptions(crop=(64, 64), mean=(0.0,) * 3, dtype="uint8"), "float32", "leave --dtype out"),
        (PreprocessingOptions(crop=(64, 64), mean=(0.0,) * 3, dtype="uint8"), "float16", "leave --dtype out"),
    ],
)
def test_values_of_another_kind_than_the_model_accepts_are_refused(
    options: PreprocessingOptions, dtype: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=f"m.onnx: accepts images as {dtype}, but they would be") as caught:
        choose_preprocessing(options, "m.onnx", None, (1, 3, 64, 64), dtype=dtype)
    assert (caught.value.remedy or "").startswith(remedy)


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (None, 3, 32, None), (None, 1, 64, 64)])
def test_images_of_another_shape_than_the_model_accepts_are_refused(shape: tuple[int | None, ...]) -> None:
    options = PreprocessingOptions(crop=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(
        UsageError, match=r"m.onnx: accepts images as float32 .* would be prepared as float32 \(3, 64, 64\)"
    ):
        choose_preprocessing(options, "m.onnx", None, shape)
    for fitting in ((1, 3, 64, 64), (None, None, None, None)):
        assert choose_preprocessing(options, "m.onnx", None, fitting).crop == (64, 64)
