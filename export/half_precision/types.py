"""The two 16-bit floating-point types that a model can be written in."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.errors import requires

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import TensorProto

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HalfType:
    """A 16-bit floating-point type.

    Attributes:
        name: "fp16" or "bf16".
        code: ONNX's code of the element type.
        schema_type: Its name in ONNX's operator schemas.
        largest: Its largest finite value.
        least: The smallest magnitude that it holds with some precision: 16 of FP16's steps below its normal numbers,
            which are 2^-24 wide; BF16's smallest normal number.
        opset: First ONNX opset in which convolutions and poolings accept it.
        tolerance: How far logits may move, as a share of the largest: the type's rounding (2^-11, 2^-8) after about
            sixty layers, times two.
    """

    name: str
    code: int
    schema_type: str
    largest: float
    least: float
    opset: int
    tolerance: float

    @property
    def label(self) -> str:
        """Human-readable name: "FP16"."""
        return self.name.upper()

    def to_tensor(self, values: Floats, name: str) -> TensorProto:
        """A constant of this type; values are rounded to the nearest, ties to even."""
        if self.code == TensorProto.BFLOAT16:
            raw: npt.NDArray[np.generic] = _bfloat16_bits(values)
        else:
            with np.errstate(over="ignore"):  # infinite, see the docstring of `rounded`
                raw = values.astype(np.float16)
        return TensorProto(name=name, data_type=self.code, dims=values.shape, raw_data=raw.tobytes())

    def from_tensor(self, tensor: TensorProto) -> Floats:
        """The value of a constant that `to_tensor` made, as float32."""
        if self.code == TensorProto.BFLOAT16:
            bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << np.uint32(16)
            values: Floats = bits.view(np.float32)
        else:
            values = np.frombuffer(tensor.raw_data, np.float16).astype(np.float32)
        return values.reshape(tuple(tensor.dims))

    def rounded(self, values: Floats) -> Floats:
        """Values rounded to this type, as float32; infinite beyond its range."""
        return self.from_tensor(self.to_tensor(values, ""))


FP16 = HalfType("fp16", TensorProto.FLOAT16, "tensor(float16)", 65504.0, 2**-20, 13, 2**-7)
# Conv and the poolings accept bfloat16 from opset 22 on.
BF16 = HalfType("bf16", TensorProto.BFLOAT16, "tensor(bfloat16)", float.fromhex("0x1.fep127"), 2**-126, 22, 2**-4)
HALF_TYPES = {kind.name: kind for kind in (FP16, BF16)}


def _bfloat16_bits(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 words, rounded to nearest even; NaN does not occur in checked weights."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded: npt.NDArray[np.uint16] = ((bits + rounding) >> np.uint32(16)).astype(np.uint16)
    return rounded
