"""The resize in the graph against Pillow, OpenCV and figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from small_models import small_model

from googlenet_deploy.device.images.nv12 import from_nv12
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import UsageError, VerificationError
from googlenet_deploy.export.passes.frame_input import FrameInput, resize_matrices
from googlenet_deploy.export.passes.uint8_input import Uint8Input
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.graph.graph import shape_of
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.graph.session import open_session

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PLAIN = Preprocessing(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, resize=8, crop=(8, 8))


def pixels_of(spec: Preprocessing, frames: Preprocessing, frame: np.ndarray, *, half: bool = False) -> np.ndarray:
    """What the graph makes of one frame as the camera delivers it, (C, h, w) in the network's order."""
    height, width = spec.crop
    nodes = [helper.make_node("Identity", ["input"], ["seen"], "network")]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, height, width]) for name in ("input", "seen")
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "identity", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    change = FrameInput(spec, frames, half=half)
    converted = PassManager().run(model, [change])
    del converted.graph.output[:]
    converted.graph.output.append(helper.make_tensor_value_info(change.pixels, TensorProto.FLOAT, None))
    return open_session(converted.SerializeToString()).run(None, {"input": frame[np.newaxis]})[0][0]


def test_the_matrix_of_a_small_resize_worked_out_by_hand() -> None:
    # Two rows of four: the triangle is two pixels wide either way, centred on 1 and 3, cut off at the border.
    spec = replace(PLAIN, resize=(2, 2), crop=(2, 2), resize_mode="stretch").with_frame_input((4, 4))
    wanted = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
    matrices = resize_matrices(spec)
    np.testing.assert_allclose(matrices.rows, wanted, atol=1e-6)
    np.testing.assert_allclose(matrices.columns, wanted.T, atol=1e-6)
    # Without antialiasing each pixel is the mean of the two around its centre, at 0.5 and 2.5.
    plain = resize_matrices(replace(spec, antialias=False))
    np.testing.assert_allclose(plain.rows, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], atol=1e-6)
    nearest = resize_matrices(replace(spec, interpolation="nearest", antialias=False))
    np.testing.assert_allclose(nearest.rows, [[1, 0, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("frame", [(90, 160), (160, 90), (75, 75), (64, 301)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pixels_are_pillows(frame: tuple[int, int], name: str, channels: str) -> None:
    spec = replace(PLAIN, resize=32, crop=(24, 28), interpolation=name, channels=channels)
    picture = smooth_pictures(1, frame, 3, seed=frame[1])[0]
    noise = np.random.default_rng(4).integers(-20, 21, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    height, width = frame
    short = min(frame)
    size = (round(32 * width / short), round(32 * height / short))
    resized = np.asarray(Image.fromarray(picture).resize(size, FILTERS[name]))
    top, left = (size[1] - 24) // 2, (size[0] - 28) // 2
    wanted = resized[top : top + 24, left : left + 28].astype(int)
    got = pixels_of(spec, spec.with_frame_input(frame), picture)
    difference = np.abs(got - wanted.transpose(2, 0, 1)[:: -1 if channels == "BGR" else 1])
    assert difference.max() <= 1 + (name == "bicubic")
    assert difference.mean() < 0.2


def test_bgr_frames_of_a_bgr_network_are_not_reordered() -> None:
    spec = replace(PLAIN, channels="BGR")
    model = PassManager().run(small_model(), [FrameInput(spec, spec.with_frame_input((18, 32), "bgr"))])
    assert "Gather" not in {node.op_type for node in model.graph.node}
    picture = smooth_pictures(1, (18, 32), 3, seed=3)[0]
    same = [
        pixels_of(spec, spec.with_frame_input((18, 32), kind), np.ascontiguousarray(picture[:, :, ::step]))
        for kind, step in (("rgb", 1), ("bgr", -1))
    ]
    np.testing.assert_array_equal(*same)


def test_a_letterbox_has_its_bars() -> None:
    spec = replace(PLAIN, resize=(16, 16), crop=(16, 16), resize_mode="letterbox", fill=(10, 20, 30), channels="BGR")
    picture = np.full((32, 64, 3), (200, 100, 50), np.uint8)
    for kind in ("rgb", "nv12"):
        frames = spec.with_frame_input((32, 64), kind)
        frame = picture if kind == "rgb" else nv12_of_opencv(picture)
        got = pixels_of(spec, frames, frame)
        np.testing.assert_array_equal(got[:, 0, 0], [30, 20, 10])
        np.testing.assert_array_equal(got[:, 3, 15], [30, 20, 10])
        np.testing.assert_array_equal(got[:, 15, 8], [30, 20, 10])
        np.testing.assert_allclose(got[:, 4, 0], [50, 100, 200], atol=2 * (kind == "nv12"))
        np.testing.assert_allclose(got[:, 11, 15], [50, 100, 200], atol=2 * (kind == "nv12"))


def nv12_of_opencv(picture: np.ndarray) -> np.ndarray:
    """(H * 3 / 2, W, 1), from OpenCV's planar YUV."""
    height, width = picture.shape[:2]
    planar = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    chroma = planar[height:].reshape(2, -1)
    interleaved = np.stack([chroma[0], chroma[1]], axis=1).reshape(height // 2, width)
    return np.concatenate([planar[:height], interleaved])[:, :, np.newaxis]


@pytest.mark.parametrize("half", [False, True])
def test_nv12_is_the_colours_that_opencv_sees(half: bool) -> None:
    spec = replace(PLAIN, resize=32, crop=(28, 28))
    picture = smooth_pictures(1, (90, 160), 3, seed=8)[0]
    frame = nv12_of_opencv(picture)
    colours = cv2.cvtColor(frame[:, :, 0], cv2.COLOR_YUV2RGB_NV12)
    resized = np.asarray(Image.fromarray(colours).resize((57, 32), Image.Resampling.BILINEAR))[2:30, 14:42]
    got = pixels_of(spec, spec.with_frame_input((90, 160), "nv12"), frame, half=half)
    difference = np.abs(got - resized.transpose(2, 0, 1).astype(int))
    assert difference.mean() < 0.4
    assert np.quantile(difference, 0.99) <= 1


def test_bt709_has_other_colours_than_bt601() -> None:
    # Pure red in BT.709, video range: Y = 16 + 219 * 0.2126, Cb = 128 - 224 * 0.2126 / 1.8556, Cr = 240.
    frame = np.full((12, 8, 1), 63, np.uint8)
    frame[8:] = np.tile([[102], [240]], (4, 1))
    assert np.abs(from_nv12(frame, "bt709").astype(int) - (255, 0, 0)).max() <= 1
    spec = replace(PLAIN, resize=4, crop=(4, 4))
    got = pixels_of(spec, spec.with_frame_input((8, 8), "nv12-bt709"), frame)
    np.testing.assert_allclose(got.reshape(3, -1).T, np.tile((255, 0, 0), (16, 1)), atol=1)
    other = pixels_of(spec, spec.with_frame_input((8, 8), "nv12"), frame)
    assert abs(other[0, 0, 0] - 255) + abs(other[1, 0, 0]) > 10


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.booleans(), st.sampled_from(["short-side", "stretch", "letterbox"]))
def test_a_frame_of_one_colour_keeps_it(height: int, width: int, antialias: bool, mode: str) -> None:
    resize = 14 if mode == "short-side" else (14, 14)
    spec = replace(PLAIN, resize=resize, crop=(12, 10), antialias=antialias, resize_mode=mode)
    got = pixels_of(spec, spec.with_frame_input((height, width)), np.full((height, width, 3), (9, 128, 255), np.uint8))
    np.testing.assert_array_equal(got[:, 6, 5], [9, 128, 255])


def test_what_stands_behind_sees_what_it_saw() -> None:
    model = small_model("qdq", batch=2)
    spec = Preprocessing(resize=10, crop=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    converted = PassManager().run(model, [FrameInput(spec, spec.with_frame_input((18, 32)))])
    assert shape_of(converted.graph.input[0]) == [2, 18, 32, 3]
    assert converted.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    nodes = {node.name: node for node in converted.graph.node}
    kinds = [node.op_type for node in converted.graph.node]
    assert kinds.index("QuantizeLinear") == kinds.index("Mul") + 1, "Q/DQ from the first convolution on only"
    assert nodes["q"].input[0] == nodes["input/frame/normalised"].output[0]
    assert kinds.count("QuantizeLinear") == [node.op_type for node in model.graph.node].count("QuantizeLinear")


def test_half_is_within_a_step() -> None:
    spec = replace(PLAIN, resize=32, crop=(28, 28))
    picture = np.random.default_rng(5).integers(0, 256, (90, 160, 3), np.uint8)
    frames = spec.with_frame_input((90, 160))
    single, half = (pixels_of(spec, frames, picture, half=half) for half in (False, True))
    assert np.abs(single - half).max() <= 1


def test_refusals() -> None:
    spec = Preprocessing(resize=10, crop=(8, 8))
    change = FrameInput(spec, spec.with_frame_input((18, 32)))
    with pytest.raises(VerificationError, match="opset 13"):
        PassManager().run(small_model(opset=11), [change])
    raw = PassManager().run(small_model(), [Uint8Input(spec)])
    with pytest.raises(VerificationError, match="float32 NCHW") as caught:
        PassManager().run(raw, [change])
    assert caught.value.remedy == "export it without --uint8-input"
    wide = replace(PLAIN, resize=10, crop=(8, 10))
    with pytest.raises(UsageError, match=r"frames of 6 x 4 .*smaller than the crop"):
        resize_matrices(replace(wide, resize=None).with_frame_input((6, 4)))


def test_luminance() -> None:
    spec = Preprocessing(resize=10, crop=(8, 8), channels="L", scale=1.0, mean=(7.0,), std=(2.0,))
    frames: Any = spec.with_frame_input((18, 32))
    assert frames.input_shape == (18, 32, 1)
    matrices = resize_matrices(frames)
    frame = np.random.default_rng(2).integers(0, 256, (18, 32, 1), np.uint8)
    wanted = np.rint(matrices.rows @ frame[:, :, 0] @ matrices.columns)
    resized = np.asarray(Image.fromarray(frame[:, :, 0]).resize((18, 10), Image.Resampling.BILINEAR))[1:9, 5:13]
    assert np.abs(wanted - resized).max() <= 1
