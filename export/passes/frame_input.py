"""Moves the resize, the crop and the normalisation of camera frames into the graph.

Except for its rounding to 8 bits, the resize of `device/preprocess.py` is linear and separable: each resized row is a
weighted sum of the frame's rows, each column of its columns. So two constant matrices compute it, including the crop:

    pixels = rows (h x H) . frame (H x W) . columns (W x w)

The frame is NHWC, so the rows are multiplied first, with (W, C) as one axis; only the resulting (h, W, C) is
transposed to planes, and then the columns are multiplied. Rows and columns without any weight, beyond the crop, are
sliced off before. The matrices come from Pillow itself, which resizes the unit vectors.

Round follows, and Clip for filters that overshoot, as in Pillow's 8-bit result. Pillow rounds after each axis, the
graph only once, so that a pixel differs by at most one step (`export/frames.py` measures it). What comes after, for
instance a Q/DQ pair of the first convolution, receives the same values as before.

NV12 has a plane of luma, and chroma at half the size. Chroma's matrices are the same with neighbouring columns added
up, since each value covers two pixels; the colours are a 1x1 convolution on the resized planes. Here a pixel can
differ by more, because the CPU rounds and clips colours before the resize.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.images.nv12 import CHROMA_OFFSET, LUMA_OFFSET, rgb_from_yuv
from googlenet_deploy.device.images.plain_resize import source_taps
from googlenet_deploy.device.preprocess import FILTERS, crop_placement
from googlenet_deploy.errors import UsageError, VerificationError, requires
from googlenet_deploy.graph.edit import add_constant, replace_nodes, unique_name
from googlenet_deploy.graph.graph import opset_of, runtime_inputs, shape_of, tensor_names

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
    from PIL import Image

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing

Matrix = npt.NDArray[np.float32]
Attribute = Any  # what `onnx.helper.make_node` accepts
SMALLEST_OPSET = 13
# Filters with negative weights leave the range of 0..255 near edges.
_OVERSHOOTING = ("bicubic", "lanczos")
PIXELS = "pixels"
FRAME_NODES = "/frame/"  # part of the name of each node that prepares frames


@dataclass(frozen=True)
class ResizeMatrices:
    """The resize and crop of frames of one size.

    Attributes:
        rows: (crop height, frame height).
        columns: (frame width, crop width).
        bars: (crop height, crop width), True at a letterbox's bars, which contain no frame pixel.
    """

    rows: Matrix
    columns: Matrix
    bars: npt.NDArray[np.bool_]


class FrameInput:
    """Replaces the float32 NCHW input by a frame; the module's docstring explains how.

    Args:
        preprocessing: What the float network expects.
        frames: The specification of the frames, as `Preprocessing.with_frame_input` returns it.
        half: Whether the matrices and their products are FP16; sums are those of the runtime.
    """

    name = "frame-input"
    optional = False

    def __init__(self, preprocessing: Preprocessing, frames: Preprocessing, *, half: bool = False) -> None:
        self.preprocessing, self.frames, self.half = preprocessing, frames, half
        self.description = f"resize, crop and normalisation moved into the graph; {frames.describe_frame()} in"
        self.pixels = ""  # the tensor that holds the resized pixels

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            UsageError: The crop does not fit in such frames.
            VerificationError: The input is not float32 NCHW, or the opset is too old.
        """
        graph = model.graph
        source = runtime_inputs(graph)[0]
        if opset_of(model) < SMALLEST_OPSET:
            raise VerificationError(f"frame input needs opset {SMALLEST_OPSET} or later", "pass --opset 17")
        is_float = source.type.tensor_type.elem_type == TensorProto.FLOAT
        plain = self.preprocessing.dtype == "float32" and self.preprocessing.layout == "NCHW"
        if not is_float or not plain or len(shape_of(source)) != 4:
            raise VerificationError(
                "frame input needs a network with a float32 NCHW input", "export it without --uint8-input"
            )
        writer = _FrameWriter(graph, source.name, half=self.half)
        matrices = resize_matrices(self.frames)
        clipped = self.frames.interpolation in _OVERSHOOTING
        base = writer.add_planes(self.frames, self.preprocessing, matrices, clipped=clipped)
        writer.add_bars(self.preprocessing, matrices.bars, base)
        writer.add_rounding(clipped=clipped or self.frames.frame_yuv is not None)
        self.pixels = writer.last
        writer.add_normalisation(self.preprocessing)
        writer.insert()
        _state_input(source, self.frames.input_shape)
        return True


def resize_matrices(frames: Preprocessing) -> ResizeMatrices:
    """The matrices that resize and crop frames as the specification states.

    Raises:
        UsageError: The crop does not fit in such frames.
    """
    assert frames.frame is not None
    height, width = frames.frame
    try:
        place = crop_placement(width, height, replace(frames, frame=None, frame_yuv=None))
    except UsageError as error:
        raise UsageError(f"frames of {height} x {width} (height x width): {error.message}") from error
    left, top, right, bottom = place.region
    high, wide = frames.crop
    rows, columns = np.zeros((high, height), np.float32), np.zeros((wide, width), np.float32)
    rows[place.top : place.top + bottom - top] = _axis(height, place.size[1], (top, bottom), frames)
    columns[place.left : place.left + right - left] = _axis(width, place.size[0], (left, right), frames)
    bars = np.ones((high, wide), np.bool_)
    bars[place.top : place.top + bottom - top, place.left : place.left + right - left] = False
    return ResizeMatrices(rows, np.ascontiguousarray(columns.T), bars)


def _axis(length: int, size: int, part: tuple[int, int], spec: Preprocessing) -> Matrix:
    """Weights, (stop - start, length), of one axis of `length` pixels that is resized to `size`; rows sum to 1."""
    start, stop = part
    if spec.antialias:
        ratio = length / size
        units = Image.fromarray(np.eye(length, dtype=np.float32))
        box = (start * ratio, 0, stop * ratio, length)
        resized = units.resize((stop - start, length), FILTERS[spec.interpolation], box=box)
        return np.ascontiguousarray(np.asarray(resized, np.float32).T)
    weights = np.zeros((stop - start, length), np.float32)
    indices, values = source_taps(length, size, part, spec.interpolation)
    np.add.at(weights, (np.arange(stop - start)[:, np.newaxis], indices), values)
    return weights


class _FrameWriter:
    """Writes the nodes between a frame and the network, one after another."""

    def __init__(self, graph: GraphProto, source: str, *, half: bool) -> None:
        self.graph, self.source, self.half = graph, source, half
        self.taken = tensor_names(graph) | {node.name for node in graph.node}
        self.nodes: list[NodeProto] = []
        self.last = source
        self.add("Cast", "cast", to=TensorProto.FLOAT16 if half else TensorProto.FLOAT)

    def add(self, operator: str, leaf: str, *constants: object, first: bool = False, **attributes: Attribute) -> str:
        """Adds a node that reads the last node's result, followed by constants, or preceded by them with `first`."""
        name = unique_name(f"{self.source}{FRAME_NODES}{leaf}", self.taken)
        values = [self._constant(f"{name}/{index}", value) for index, value in enumerate(constants)]
        inputs = [*values, self.last] if first else [self.last, *values]
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.last = name
        return name

    def _constant(self, wanted: str, value: object) -> str:
        array = np.asarray(value)
        kind = np.int64 if array.dtype.kind in "iu" else np.float16 if self.half else np.float32
        return add_constant(self.graph, array.astype(kind), unique_name(wanted, self.taken))

    def add_planes(
        self, frames: Preprocessing, network: Preprocessing, matrices: ResizeMatrices, *, clipped: bool
    ) -> npt.NDArray[np.float64]:
        """Adds the resized planes, (N, C, h, w) in the network's order; returns their values outside the frame."""
        if frames.frame_yuv is not None:
            return self._add_nv12(frames, network, matrices, clipped=clipped)
        self._add_resize(matrices.rows, matrices.columns, len(frames.channels), "", (0, 0), clipped=clipped)
        if frames.channels != network.channels:
            self.add("Gather", "channels", np.array([2, 1, 0]), axis=1)
        return np.zeros(len(network.channels))

    def _add_nv12(
        self, frames: Preprocessing, network: Preprocessing, matrices: ResizeMatrices, *, clipped: bool
    ) -> npt.NDArray[np.float64]:
        assert frames.frame is not None
        assert frames.frame_yuv is not None
        frame = self.last
        luma = self._add_resize(matrices.rows, matrices.columns, 1, "luma/", (0, 0), clipped=clipped)
        self.last = frame
        rows = matrices.rows[:, 0::2] + matrices.rows[:, 1::2]
        columns = matrices.columns[0::2] + matrices.columns[1::2]
        chroma = self._add_resize(rows, columns, 2, "chroma/", (frames.frame[0], 0), clipped=clipped)
        planes = unique_name(f"{self.source}{FRAME_NODES}yuv", self.taken)
        self.nodes.append(helper.make_node("Concat", [luma, chroma], [planes], planes, axis=1))
        self.last = planes
        colours = rgb_from_yuv(frames.frame_yuv)[:: -1 if network.channels == "BGR" else 1]
        offsets: npt.NDArray[np.float64] = -colours @ np.array([LUMA_OFFSET, CHROMA_OFFSET, CHROMA_OFFSET])
        self.add("Conv", "colours", colours[:, :, np.newaxis, np.newaxis], offsets, kernel_shape=[1, 1])
        return offsets

    def _add_resize(
        self, rows: Matrix, columns: Matrix, channels: int, part: str, offset: tuple[int, int], *, clipped: bool
    ) -> str:
        """(N, C, h, w) from a part of the frame that begins at `offset` and has `channels` values per pixel."""
        (top, bottom), (left, right) = _reached(rows, 0), _reached(columns, 1)
        starts = [offset[0] + top, offset[1] + left * self._step(channels, part)]
        ends = [offset[0] + bottom, offset[1] + right * self._step(channels, part)]
        if bottom - top < rows.shape[1] or right - left < columns.shape[0] or part:
            self.add("Slice", f"{part}slice", np.array(starts), np.array(ends), np.array([1, 2]))
        kept = right - left
        self.add("Reshape", f"{part}flat", np.array([0, bottom - top, kept * channels]))
        self.add("MatMul", f"{part}rows", rows[:, top:bottom], first=True)
        if clipped:
            self._add_clip(f"{part}clipped_rows")
        self.add("Reshape", f"{part}split", np.array([0, len(rows), kept, channels]))
        self.add("Transpose", f"{part}planes", perm=[0, 3, 1, 2])
        return self.add("MatMul", f"{part}columns", columns[left:right])

    @staticmethod
    def _step(channels: int, part: str) -> int:
        """Values per pixel on the frame's third axis: two for interleaved chroma if colours are an axis."""
        return channels if part else 1

    def add_bars(self, network: Preprocessing, bars: npt.NDArray[np.bool_], base: npt.NDArray[np.float64]) -> None:
        """Adds the bars of a letterbox."""
        if not bars.any():
            return
        fill = np.resize(np.asarray(network.fill, np.float64), len(base))
        fill = fill[::-1] if network.channels == "BGR" else fill
        values = (fill - base)[:, np.newaxis, np.newaxis] * bars
        if values.any():
            self.add("Add", "bars", values[np.newaxis])

    def add_rounding(self, *, clipped: bool) -> None:
        """Adds rounding to whole pixel values from 0 to 255, back in float32."""
        self.add("Round", "rounded" if clipped or self.half else PIXELS)
        if clipped:
            self._add_clip("clipped" if self.half else PIXELS)
        if self.half:
            self.add("Cast", PIXELS, to=TensorProto.FLOAT)
            self.half = False

    def _add_clip(self, leaf: str) -> None:
        self.add("Clip", leaf, 0.0, 255.0)

    def add_normalisation(self, network: Preprocessing) -> None:
        """Adds ``(pixel - mean / scale) * (scale / std)``, as in `uint8_input`."""
        mean, std = np.asarray(network.mean) / network.scale, network.scale / np.asarray(network.std)
        if mean.any():
            self.add("Sub", "centred", mean.reshape(1, -1, 1, 1))
        if (std != 1.0).any():
            self.add("Mul", "normalised", std.reshape(1, -1, 1, 1))

    def insert(self) -> None:
        """Puts the nodes before all readers of the input."""
        for node in self.graph.node:
            node.input[:] = [self.last if name == self.source else name for name in node.input]
        replace_nodes(self.graph, [*self.nodes, *self.graph.node])


def _reached(weights: Matrix, axis: int) -> tuple[int, int]:
    """(start, stop) of the positions with a weight, along the other axis."""
    places = np.flatnonzero(np.any(weights, axis=axis))
    return int(places[0]), int(places[-1]) + 1


def _state_input(source: ValueInfoProto, shape: tuple[int, int, int]) -> None:
    """Makes an input uint8 (N, *shape); the batch stays as it is."""
    tensor = source.type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    for dimension, size in zip(list(tensor.shape.dim)[1:], shape, strict=True):
        dimension.Clear()
        dimension.dim_value = size
