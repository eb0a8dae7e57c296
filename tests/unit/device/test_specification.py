from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.specification import (
    BVLC,
    CHANNEL_ORDERS,
    INTERPOLATIONS,
    TORCHVISION,
    Preprocessing,
    describe_difference,
)
from googlenet_deploy.errors import UsageError

positive = st.floats(1e-3, 1e3)


@st.composite
def specifications(draw: st.DrawFn) -> Preprocessing:
    channels = draw(st.sampled_from(CHANNEL_ORDERS))
    count = len(channels)
    crop = (draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    return Preprocessing(
        resize=draw(st.none() | st.integers(max(crop), 400)),
        crop=crop,
        interpolation=draw(st.sampled_from(INTERPOLATIONS)),
        channels=channels,
        scale=draw(positive),
        mean=tuple(draw(st.lists(st.floats(-300, 300), min_size=count, max_size=count))),
        std=tuple(draw(st.lists(positive, min_size=count, max_size=count))),
        layout=draw(st.sampled_from(("NCHW", "NHWC"))),
    )


@given(specifications())
def test_json_gives_the_same_specification_back(spec: Preprocessing) -> None:
    text = spec.to_json()
    assert Preprocessing.from_json(text) == spec
    assert "\n" not in text
    assert list(json.loads(text)) == list(json.loads(BVLC.to_json()))


@given(specifications())
def test_uint8_input_keeps_the_geometry_and_takes_raw_pixels(spec: Preprocessing) -> None:
    raw = spec.with_uint8_input()
    assert set(describe_difference(spec, raw)) <= {"channels", "scale", "mean", "std", "layout", "dtype"}
    assert (raw.layout, raw.dtype, raw.channels) == ("NHWC", "uint8", "L" if spec.channels == "L" else "RGB")
    assert raw.input_shape == (*spec.crop, len(spec.channels))
    assert raw.with_uint8_input() == raw


@st.composite
def other_geometries(draw: st.DrawFn) -> Preprocessing:
    crop = (draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    mode = draw(st.sampled_from(("stretch", "letterbox")))
    target = st.tuples(st.integers(crop[0], 400), st.integers(crop[1], 400))
    return Preprocessing(
        resize=draw(st.none() | target),
        crop=crop,
        resize_mode=mode,
        antialias=draw(st.booleans()),
        fill=tuple(draw(st.lists(st.integers(0, 255), min_size=3, max_size=3))) if mode == "letterbox" else (0,),
    )


@given(other_geometries())
def test_stretch_and_letterbox_are_written_and_read(spec: Preprocessing) -> None:
    again = Preprocessing.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert spec.with_uint8_input().target == (spec.resize or spec.crop)
    assert spec.with_uint8_input().fill == spec.fill


def test_files_from_before_the_modes_mean_and_read_what_they_did() -> None:
    text = (
        '{"resize":256,"crop":[224,224],"interpolation":"bilinear","channels":"BGR","scale":1.0,'
        '"mean":[104.0,117.0,123.0],"std":[1.0,1.0,1.0],"layout":"NCHW","dtype":"float32"}'
    )
    assert Preprocessing.from_json(text) == BVLC
    assert (BVLC.resize_mode, BVLC.antialias, BVLC.short_side) == ("short-side", True, 256)
    assert BVLC.to_json() == text, "byte for byte, so that older versions read what newer ones write"


def test_one_number_is_a_square() -> None:
    assert Preprocessing(resize=256, resize_mode="stretch").resize == (256, 256)
    assert Preprocessing(resize=256, resize_mode="stretch") == Preprocessing(resize=(256, 256), resize_mode="stretch")
    assert Preprocessing(resize=None, crop=(5, 7), resize_mode="letterbox").target == (5, 7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "short side to 256, 224 x 224 (height x width) out of the middle, bilinear"),
        ({"resize": None}, "no resize, 224 x 224 (height x width) out of the middle, bilinear"),
        ({"resize": None, "resize_mode": "stretch"}, "stretched to 224 x 224 (height x width), bilinear"),
        (
            {"resize_mode": "stretch", "antialias": False, "interpolation": "bicubic"},
            (
                "stretched to 256 x 256 (height x width), 224 x 224 (height x width) out of the middle, "
                "bicubic without antialiasing"
            ),
        ),
        (
            {"resize": None, "crop": (96, 128), "resize_mode": "letterbox", "fill": (114,)},
            "fitted into 96 x 128 (height x width), bars of 114, bilinear",
        ),
    ],
)
def test_geometry_in_words(changes: dict[str, Any], words: str) -> None:
    assert replace(Preprocessing(), **changes).describe_geometry() == words


def test_each_mode_names_its_own_size_only() -> None:
    with pytest.raises(UsageError, match="depends on the image"):
        _ = BVLC.target
    with pytest.raises(UsageError, match="stretch does not resize by the short side"):
        _ = replace(BVLC, resize_mode="stretch").short_side


def test_published_specifications() -> None:
    assert (BVLC.resize, BVLC.crop, BVLC.interpolation) == (256, (224, 224), "bilinear")
    assert (BVLC.channels, BVLC.scale, BVLC.mean, BVLC.std) == ("BGR", 1.0, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
    assert (TORCHVISION.channels, TORCHVISION.scale) == ("RGB", 1 / 255)
    assert (TORCHVISION.mean, TORCHVISION.std) == ((0.5,) * 3, (0.5,) * 3)
    assert BVLC.input_shape == (3, 224, 224)


def test_differences_name_the_field_and_both_values() -> None:
    assert describe_difference(BVLC, BVLC) == {}
    other = Preprocessing.from_dict({**json.loads(BVLC.to_json()), "resize": None, "channels": "RGB"})
    assert describe_difference(BVLC, other) == {"resize": (256, None), "channels": ("BGR", "RGB")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interpolation": "area"}, "interpolation is 'area', must be one of nearest"),
        ({"channels": "GBR"}, "channels is 'GBR'"),
        ({"channels": 3}, "channels is 3"),
        ({"layout": "CHW"}, "layout is 'CHW'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"channels": "L"}, "mean and std need 1 values each for channels L"),
        ({"mean": [1, 2]}, "mean and std need 3 values"),
        ({"std": [1, 0, 1]}, "every std must be greater than 0"),
        ({"std": [1, float("nan"), 1]}, "must be finite numbers"),
        ({"scale": float("inf")}, "must be finite numbers"),
        ({"scale": 10**400}, "must be finite numbers"),
        ({"scale": 0.0}, "must be greater than 0"),
        ({"mean": [2**63, 0.4, 0.4]}, "a pixel becomes -4.03e\\+19; no network expects more than 1e\\+09"),
        ({"std": [1, 1e-12, 1]}, "no network expects more than"),
        ({"scale": 1e9}, "no network expects more than"),
        ({"scale": "1"}, "must be finite numbers"),
        ({"scale": True}, "must be finite numbers"),
        ({"mean": ["a", "b", "c"]}, "must be finite numbers"),
        ({"mean": 0.5}, "mean is 0.5, must be a list"),
        ({"crop": None}, "crop is None, must be a list"),
        ({"crop": [224]}, "whole numbers of pixels"),
        ({"crop": [224.0, 224]}, "whole numbers of pixels"),
        ({"resize": "256"}, "whole numbers of pixels"),
        ({"crop": [0, 224]}, "does not fit"),
        ({"crop": [300, 200]}, "does not fit in a short side of 256"),
        ({"resize": 10**9}, "1000000000 pixels are more than the limit"),
        ({"dtype": "uint8"}, "accepts raw pixels"),
        ({"resize_mode": "squash"}, "resize_mode is 'squash', must be one of short-side, stretch, letterbox"),
        ({"resize": [256, 256]}, "whole numbers of pixels"),
        ({"resize": True}, "whole numbers of pixels"),
        ({"resize": [256], "resize_mode": "stretch"}, "whole numbers of pixels"),
        ({"resize": [256, 200], "resize_mode": "stretch"}, "does not fit in a resize to .256, 200."),
        ({"resize": 200, "resize_mode": "letterbox"}, "does not fit in a resize to .200, 200."),
        ({"resize": 10**9, "resize_mode": "stretch"}, "1000000000 pixels are more than the limit"),
        ({"antialias": "off"}, "antialias is 'off', must be true or false"),
        ({"fill": [114]}, "fill is for resize_mode letterbox"),
        ({"fill": [0, 0]}, "fill is one value 0..255"),
        ({"fill": [256], "resize_mode": "letterbox"}, "fill is one value 0..255"),
        ({"fill": [0.5], "resize_mode": "letterbox"}, "fill is one value 0..255"),
        ({"fill": 7}, "fill is 7, must be a list"),
        ({"colour": "RGB"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"preprocessing: .*{words}"):
        Preprocessing.from_dict({**json.loads(Preprocessing().to_json()), **changes})


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"bvlc"', "[" * 100_000, '{"crop": [224, 224]'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not JSON|not a JSON object"):
        Preprocessing.from_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
)


@given(st.dictionaries(st.sampled_from([*asdict(BVLC), "other"]), json_values))
def test_any_json_object_is_read_or_refused(values: dict[str, Any]) -> None:
    try:
        spec = Preprocessing.from_json(json.dumps(values))
    except UsageError:
        return
    assert min(spec.input_shape) > 0


def test_frames_are_part_of_the_specification() -> None:
    spec = BVLC.with_frame_input((1080, 1920), "nv12-bt709")
    assert Preprocessing.from_json(spec.to_json()) == spec
    assert '"frame":[1080,1920],"frame_yuv":"bt709"' in spec.to_json()
    assert "frame" not in BVLC.to_json()
    assert (spec.input_shape, spec.pixel_size, spec.frame_format) == ((1620, 1920, 1), (1080, 1920), "nv12-bt709")
    assert BVLC.with_frame_input((720, 1280), "bgr").input_shape == (720, 1280, 3)
    assert BVLC.with_frame_input((720, 1280), "bgr").channels == "BGR"
    assert BVLC.with_frame_input((720, 1280)).with_uint8_input() == BVLC.with_uint8_input()
    assert spec.describe_geometry().startswith(
        "NV12 (BT.709) frames of 1080 x 1920 (height x width); inside the network"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": (0, 5)}, "frame is"),
        ({"frame": (90, 160, 3)}, "frame is"),
        ({"frame": "90x160"}, "must be a list"),
        ({"frame": (90, 160), "dtype": "float32"}, "uint8 NHWC"),
        ({"frame": (91, 160), "frame_yuv": "bt601"}, "even sides"),
        ({"frame": (90, 160), "frame_yuv": "bt2020"}, "frame_yuv"),
        ({"frame_yuv": "bt601"}, "takes frames|for networks"),
    ],
)
def test_frames_that_do_not_exist(changes: dict[str, Any], message: str) -> None:
    fields = {**asdict(BVLC.with_uint8_input()), **changes}
    with pytest.raises(UsageError, match=message):
        Preprocessing.from_dict(fields)
