"""Numbers of inputs and outputs of each operator in the default operator set, by version, and attribute types.

Made from ``onnx.defs`` (onnx 1.23; a test compares them), since a device has no onnx package. An entry is the version
from which it applies, then inputs and outputs as ``least..most``, without ``most`` if there is no limit, and the
required attributes; "-" means that the operator is removed in this version.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

NEWEST_OPSET, NEWEST_IR_VERSION = 28, 14


class Arity(NamedTuple):
    """Least and most inputs and outputs, None without a limit; and the required attributes."""

    inputs: Tuple[int, Optional[int]]
    outputs: Tuple[int, Optional[int]]
    required: Tuple[str, ...] = ()


ANY_ARITY = Arity((0, None), (1, None))


def arity_of(operator: str, opset: int) -> Optional[Arity]:
    """How many inputs and outputs an operator has in an operator set; None if the set does not have it."""
    found: Optional[Arity] = None
    for version, arity in _table().get(operator, ()):
        if version <= opset:
            found = arity
    return found


def attribute_kinds(name: str) -> Tuple[int, ...]:
    """The types (``AttributeProto.type``) that an attribute of that name has; empty if no operator has it."""
    if not _KINDS:
        for line in _ATTRIBUTES.strip().splitlines():
            kinds, _, names = line.partition(": ")
            _KINDS.update((part, tuple(map(int, kinds.split(",")))) for part in names.split())
    return _KINDS.get(name, ())


def _table() -> Dict[str, List[Tuple[int, Optional[Arity]]]]:
    if not _PARSED:
        for line in _TEXT.strip().splitlines():
            name, _, entries = line.partition(" ")
            _PARSED[name] = [_entry(part) for part in entries.split("; ")]
    return _PARSED


def _entry(text: str) -> Tuple[int, Optional[Arity]]:
    version, _, numbers = text.partition(": ")
    if numbers == "-":
        return int(version), None
    inputs, outputs, *required = numbers.split()
    return int(version), Arity(_range(inputs), _range(outputs), tuple(required))


def _range(text: str) -> Tuple[int, Optional[int]]:
    least, _, most = text.partition("..")
    return int(least), int(most) if most else None


_KINDS: Dict[str, Tuple[int, ...]] = {}
_ATTRIBUTES = """
1: alpha beta bias clip cubic_coeff_a epsilon extrapolation_value gamma height_scale high lambd low max mean
1: min momentum ratio scale softcap spatial_scale value_float width_scale
1,2: p seed
1,4: value
2: align_corners allowzero antialias axis batch_axis batch_dims block_size blocksize broadcast ceil_mode
2: center_point_box chunk_size count_include_pad detect_negative detect_positive dtype end exclude_outside
2: exclusive fmod group hidden_size ignore_index input_forget interleaved inverse is_case_sensitive
2: is_causal is_test k keepdims kv_num_heads largest layout left_window_size linear_before_reset
2: max_gram_length max_skip_count maxsplit min_gram_length new_axis noop_with_empty_axes num_groups
2: num_heads num_outputs num_scan_inputs offset_group onesided output_datatype output_dtype output_height
2: output_sequence output_width periodic precision q_num_heads qk_matmul_output_mode reverse
2: right_window_size rotary_embedding_dim sample_size sampling_ratio saturate select_last_index size
2: softmax_precision sorted spatial start stash_type storage_order time_axis training_mode transA transB
2: upper value_int
2,3: to
3: activation approximate auto_pad case_change_action coordinate_transformation_mode delimiter direction
3: equation keep_aspect_ratio_policy locale mode nearest_mode padding_mode pattern pixel_format reduction
3: round_mode update_rule value_string
5: body else_branch then_branch
6: activation_alpha activation_beta scales value_floats weights
7: axes consumed_inputs dilations directions ends kernel_shape ngram_counts ngram_indexes output_padding
7: output_shape paddings pads perm pool_int64s pooled_shape scan_input_axes scan_input_directions
7: scan_output_axes scan_output_directions shape split starts strides value_ints
8: activations pool_strings stopwords value_strings
11: sparse_value
13: type
"""
_PARSED: Dict[str, List[Tuple[int, Optional[Arity]]]] = {}
_TEXT = """
Abs 1: 1..1 1..1
Acos 7: 1..1 1..1
Acosh 9: 1..1 1..1
Add 1: 2..2 1..1
AffineGrid 20: 2..2 1..1
And 1: 2..2 1..1
ArgMax 1: 1..1 1..1
ArgMin 1: 1..1 1..1
Asin 7: 1..1 1..1
Asinh 9: 1..1 1..1
Atan 7: 1..1 1..1
Atanh 9: 1..1 1..1
Attention 23: 3..6 1..4; 24: 3..7 1..4
AveragePool 1: 1..1 1..1 kernel_shape
BatchNormalization 1: 5..5 1..5 consumed_inputs; 6: 5..5 1..5; 14: 5..5 1..3
Bernoulli 15: 1..1 1..1
BitCast 26: 1..1 1..1 to
BitShift 11: 2..2 1..1 direction
BitwiseAnd 18: 2..2 1..1
BitwiseNot 18: 1..1 1..1
BitwiseOr 18: 2..2 1..1
BitwiseXor 18: 2..2 1..1
BlackmanWindow 17: 1..1 1..1
Cast 1: 1..1 1..1 to
CastLike 15: 2..2 1..1
CausalConvWithState 27: 2..4 2..2
Ceil 1: 1..1 1..1
Celu 12: 1..1 1..1
CenterCropPad 18: 2..2 1..1
Clip 1: 1..1 1..1; 11: 1..3 1..1
Col2Im 18: 3..3 1..1
Compress 9: 2..2 1..1
Concat 1: 1.. 1..1; 4: 1.. 1..1 axis
ConcatFromSequence 11: 1..1 1..1 axis
Constant 1: 0..0 1..1 value; 11: 0..0 1..1
ConstantOfShape 9: 1..1 1..1
Conv 1: 2..3 1..1
ConvInteger 10: 2..4 1..1
ConvTranspose 1: 2..3 1..1
Cos 7: 1..1 1..1
Cosh 9: 1..1 1..1
CumProd 26: 2..2 1..1
CumSum 11: 2..2 1..1
DFT 17: 1..2 1..1; 20: 1..3 1..1
DeformConv 19: 3..5 1..1
DepthToSpace 1: 1..1 1..1 blocksize
DequantizeLinear 10: 2..3 1..1
Det 11: 1..1 1..1
Div 1: 2..2 1..1
Dropout 1: 1..1 1..2; 12: 1..3 1..2
DynamicQuantizeLinear 11: 1..1 3..3
Einsum 12: 1.. 1..1 equation
Elu 1: 1..1 1..1
Equal 1: 2..2 1..1
Erf 9: 1..1 1..1
Exp 1: 1..1 1..1
Expand 8: 2..2 1..1
EyeLike 9: 1..1 1..1
Flatten 1: 1..1 1..1
Floor 1: 1..1 1..1
GRU 1: 3..6 2..2; 3: 3..6 0..2
Gather 1: 2..2 1..1
GatherElements 11: 2..2 1..1
GatherND 11: 2..2 1..1
Gelu 20: 1..1 1..1
Gemm 1: 3..3 1..1; 11: 2..3 1..1
GlobalAveragePool 1: 1..1 1..1
GlobalLpPool 1: 1..1 1..1
GlobalMaxPool 1: 1..1 1..1
Greater 1: 2..2 1..1
GreaterOrEqual 12: 2..2 1..1
GridSample 16: 2..2 1..1
GroupNormalization 18: -; 21: 3..3 1..1 num_groups
HammingWindow 17: 1..1 1..1
HannWindow 17: 1..1 1..1
HardSigmoid 1: 1..1 1..1
HardSwish 14: 1..1 1..1
Hardmax 1: 1..1 1..1
Identity 1: 1..1 1..1
If 1: 1..1 1.. else_branch then_branch
ImageDecoder 20: 1..1 1..1
InstanceNormalization 1: 3..3 1..1
IsInf 10: 1..1 1..1
IsNaN 9: 1..1 1..1
LRN 1: 1..1 1..1 size
LSTM 1: 3..8 0..3
LayerNormalization 17: 2..3 1..3
LeakyRelu 1: 1..1 1..1
Less 1: 2..2 1..1
LessOrEqual 12: 2..2 1..1
LinearAttention 27: 3..6 2..2 kv_num_heads q_num_heads
Log 1: 1..1 1..1
LogSoftmax 1: 1..1 1..1
Loop 1: 3.. 1.. body; 11: 2.. 1.. body
LpNormalization 1: 1..1 1..1
LpPool 1: 1..1 1..1; 2: 1..1 1..1 kernel_shape
MatMul 1: 2..2 1..1
MatMulInteger 10: 2..4 1..1
Max 1: 1.. 1..1
MaxPool 1: 1..1 1..1 kernel_shape; 8: 1..1 1..2 kernel_shape
MaxRoiPool 1: 2..2 1..1 pooled_shape
MaxUnpool 9: 2..3 1..1 kernel_shape
Mean 1: 1.. 1..1
MeanVarianceNormalization 9: 1..1 1..1
MelWeightMatrix 17: 5..5 1..1
Min 1: 1.. 1..1
Mish 18: 1..1 1..1
Mod 10: 2..2 1..1
Mul 1: 2..2 1..1
Multinomial 7: 1..1 1..1
Neg 1: 1..1 1..1
NegativeLogLikelihoodLoss 12: 2..3 1..1
NonMaxSuppression 10: 2..5 1..1
NonZero 9: 1..1 1..1
Not 1: 1..1 1..1
OneHot 9: 3..3 1..1
Optional 15: 0..1 1..1
OptionalGetElement 15: 1..1 1..1
OptionalHasElement 15: 1..1 1..1; 18: 0..1 1..1
Or 1: 2..2 1..1
PRelu 1: 2..2 1..1
Pad 1: 1..1 1..1 paddings; 2: 1..1 1..1 pads; 11: 2..3 1..1; 18: 2..4 1..1
Pow 1: 2..2 1..1
QLinearConv 10: 8..9 1..1
QLinearMatMul 10: 8..8 1..1
QuantizeLinear 10: 2..3 1..1
RMSNormalization 23: 2..2 1..1
RNN 1: 3..6 0..2
RandomNormal 1: 0..0 1..1 shape
RandomNormalLike 1: 1..1 1..1
RandomUniform 1: 0..0 1..1 shape
RandomUniformLike 1: 1..1 1..1
Range 11: 3..3 1..1
Reciprocal 1: 1..1 1..1
ReduceL1 1: 1..1 1..1; 18: 1..2 1..1
ReduceL2 1: 1..1 1..1; 18: 1..2 1..1
ReduceLogSum 1: 1..1 1..1; 18: 1..2 1..1
ReduceLogSumExp 1: 1..1 1..1; 18: 1..2 1..1
ReduceMax 1: 1..1 1..1; 18: 1..2 1..1
ReduceMean 1: 1..1 1..1; 18: 1..2 1..1
ReduceMin 1: 1..1 1..1; 18: 1..2 1..1
ReduceProd 1: 1..1 1..1; 18: 1..2 1..1
ReduceSum 1: 1..1 1..1; 13: 1..2 1..1
ReduceSumSquare 1: 1..1 1..1; 18: 1..2 1..1
RegexFullMatch 20: 1..1 1..1
Relu 1: 1..1 1..1
Reshape 1: 1..1 1..1; 5: 2..2 1..1
Resize 10: 2..2 1..1; 11: 3..4 1..1; 13: 1..4 1..1
ReverseSequence 10: 2..2 1..1
RoiAlign 10: 3..3 1..1
RotaryEmbedding 23: 3..4 1..1
Round 11: 1..1 1..1
STFT 17: 2..4 1..1
Scan 8: 2.. 1.. body num_scan_inputs; 9: 1.. 1.. body num_scan_inputs
Scatter 9: 3..3 1..1; 11: -
ScatterElements 11: 3..3 1..1
ScatterND 11: 3..3 1..1
Selu 1: 1..1 1..1
SequenceAt 11: 2..2 1..1
SequenceConstruct 11: 1.. 1..1
SequenceEmpty 11: 0..0 1..1
SequenceErase 11: 1..2 1..1
SequenceInsert 11: 2..3 1..1
SequenceLength 11: 1..1 1..1
SequenceMap 17: 1.. 1.. body
Shape 1: 1..1 1..1
Shrink 9: 1..1 1..1
Sigmoid 1: 1..1 1..1
Sign 9: 1..1 1..1
Sin 7: 1..1 1..1
Sinh 9: 1..1 1..1
Size 1: 1..1 1..1
Slice 1: 1..1 1..1 ends starts; 10: 3..5 1..1
Softmax 1: 1..1 1..1
SoftmaxCrossEntropyLoss 12: 2..3 1..2
Softplus 1: 1..1 1..1
Softsign 1: 1..1 1..1
SpaceToDepth 1: 1..1 1..1 blocksize
Split 1: 1..2 1..; 2: 1..1 1..; 13: 1..2 1..
SplitToSequence 11: 1..2 1..1
Sqrt 1: 1..1 1..1
Squeeze 1: 1..1 1..1; 13: 1..2 1..1
StringConcat 20: 2..2 1..1
StringNormalizer 10: 1..1 1..1
StringSplit 20: 1..1 2..2
Sub 1: 2..2 1..1
Sum 1: 1.. 1..1
SwiGLU 28: 2..2 1..1
Swish 24: 1..1 1..1
Tan 7: 1..1 1..1
Tanh 1: 1..1 1..1
TensorScatter 24: 2..3 1..1
TfIdfVectorizer 9: 1..1 1..1 max_gram_length max_skip_count min_gram_length mode ngram_counts ngram_indexes
ThresholdedRelu 10: 1..1 1..1
Tile 1: 3..3 1..1; 6: 2..2 1..1
TopK 1: 1..1 2..2 k; 10: 2..2 2..2
Transpose 1: 1..1 1..1
Trilu 14: 1..2 1..1
Unique 11: 1..1 1..4
Unsqueeze 1: 1..1 1..1 axes; 13: 2..2 1..1
Upsample 1: 1..1 1..1 height_scale width_scale; 7: 1..1 1..1 scales; 9: 2..2 1..1; 10: -
Where 9: 3..3 1..1
Xor 1: 2..2 1..1
"""
