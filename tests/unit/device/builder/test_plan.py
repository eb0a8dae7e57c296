from __future__ import annotations

from dataclasses import replace

import pytest

from googlenet_deploy.device.builder.options import BuildOptions, parse_batch, parse_capabilities, parse_size
from googlenet_deploy.device.builder.plan import BuildPlan, Site, plan_build, site_of
from googlenet_deploy.device.builder.trtexec import trtexec_command
from googlenet_deploy.device.onnx_model.header import Node, OnnxHeader
from googlenet_deploy.device.onnx_model.messages import Value
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, DeviceError, GoogLeNetDeployError, UsageError

OLD, TEN, TEN13 = Site("TensorRT 8.5", (8, 5, 2)), Site("TensorRT 10.3", (10, 3)), Site("TensorRT 10.13", (10, 13))
ELEVEN, RTX = Site("TensorRT 11", (11, 4)), Site("TensorRT-RTX", (1, 7), rtx=True)


def header(kind: str = "fp32", *, opset: int = 13, batch: int | str = "batch") -> OnnxHeader:
    nodes = [Node("conv1", "Conv", ("image", "w"), ("a",)), Node("norm", "LRN", ("a",), ("out",))]
    if kind == "int8":
        nodes += [
            Node("q", "QuantizeLinear", ("image", "s"), ("c",)),
            Node("dq", "DequantizeLinear", ("c", "s"), ("d",)),
        ]
    weights = {"fp16": "float16", "bf16": "bfloat16"}.get(kind, "float32")
    image = Value("image", "float32", (batch, 3, 8, 8))
    return OnnxHeader(opset, tuple(nodes), (image,), (), {"w": weights}, ModelMetadata())


def plan(kind: str, site: Site, **options: object) -> BuildPlan:
    return plan_build(header(kind), "m.onnx", BuildOptions(**options), site)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "site", "precision", "flags", "strong"),
    [
        ("fp32", OLD, None, (), False),
        ("fp32", OLD, "fp16", ("FP16",), False),
        ("fp32", TEN13, "fp16", ("FP16",), False),
        ("int8", OLD, None, ("FP16", "INT8"), False),
        ("int8", TEN, "int8", ("FP16", "INT8"), False),
        ("fp16", TEN, None, ("FP16",), False),
        ("fp16", TEN13, None, (), True),
        ("fp32", ELEVEN, None, (), True),
        ("int8", ELEVEN, "int8", (), True),
        ("bf16", RTX, None, (), True),
        ("int8", RTX, None, (), True),
    ],
)
def test_dialect_and_flags(kind: str, site: Site, precision: str | None, flags: tuple[str, ...], strong: bool) -> None:
    result = plan(kind, site, precision=precision)
    assert (result.flags, result.strongly_typed) == (flags, strong)


def test_default_of_a_model_without_types_is_said() -> None:
    assert any("the engine is FP32" in note for note in plan("fp32", OLD).notes)


@pytest.mark.parametrize("target", ["nano", "tx1", "tx2"])
def test_modules_without_int8_get_fp16_and_are_told(target: str) -> None:
    result = plan("int8", site_of(load_target(target)))
    assert result.strip_qdq
    assert result.precision == "fp16"
    assert "INT8" not in result.flags
    assert any("has no INT8" in note and "removed" in note for note in result.notes)


def test_modules_with_int8_keep_qdq() -> None:
    assert not plan("int8", site_of(load_target("xavier-nx"))).strip_qdq


def test_lrn_stays_fp32_beside_flags_unless_asked_otherwise() -> None:
    assert plan("fp32", OLD, precision="fp16").keep_fp32 == ("LRN",)
    assert plan("fp32", OLD, precision="fp16", keep_fp32=()).keep_fp32 == ()
    assert plan("fp32", OLD).keep_fp32 == ()


REFUSED = [
    ("fp32", ELEVEN, {"precision": "fp16"}, BadModelError, "uses the types of the model"),
    ("fp32", RTX, {"precision": "int8"}, BadModelError, "no Q/DQ"),
    ("fp32", OLD, {"precision": "int8"}, BadModelError, "INT8 has no scales"),
    ("int8", OLD, {"precision": "fp16"}, BadModelError, "is quantised"),
    ("fp32", OLD, {"precision": "bf16"}, DeviceError, "no BF16"),
    ("fp32", ELEVEN, {"calibration_cache": "c"}, DeviceError, "implicit INT8 ended"),
    ("fp32", RTX, {"calibration_images": "d"}, DeviceError, "implicit INT8 ended"),
    ("int8", OLD, {"calibration_cache": "c"}, BadModelError, "cannot be combined"),
    ("fp32", OLD, {"calibration_cache": "c", "calibration_images": "d"}, UsageError, "exclude"),
    ("fp32", OLD, {"calibration_cache": "c", "precision": "fp16"}, UsageError, "for INT8"),
    ("fp32", Site("n", (8, 5), compute_capability=(5, 3)), {"calibration_cache": "c"}, DeviceError, "has no INT8"),
    ("fp32", OLD, {"version_compatible": True}, DeviceError, "8.6"),
    ("fp32", Site("n", (10, 3), compute_capability=(6, 2)), {"version_compatible": True}, DeviceError, "7.0"),
    ("fp32", OLD, {"strip_plan": True}, DeviceError, "strip"),
    ("fp32", TEN, {"compute_capabilities": ((8, 6),)}, UsageError, "tensorrt-rtx"),
    ("fp32", RTX, {"typing": "weak"}, DeviceError, "only strongly typed"),
    ("fp32", TEN, {"typing": "strong"}, DeviceError, "10.12"),
    ("fp32", TEN13, {"dla_core": 0}, DeviceError, "no DLA support"),
    ("fp32", RTX, {"dla_core": 0}, DeviceError, "no DLA support"),
    ("fp32", Site("n", (8, 5), dla_cores=0), {"dla_core": 0}, DeviceError, "has no DLA"),
    ("fp32", Site("n", (8, 5), dla_cores=1), {"dla_core": 1}, DeviceError, "1 DLA cores"),
    ("fp32", OLD, {"dla_core": 0, "precision": "fp32"}, UsageError, "FP16 and INT8"),
    ("fp32", OLD, {"dla_core": 0}, UsageError, "FP16 and INT8"),
    ("int8", OLD, {"dla_core": 0}, BadModelError, "only from a calibration cache"),
    ("fp32", Site("n", (8, 5), compute_capability=(5, 3)), {"precision": "int8"}, DeviceError, "has no INT8"),
    ("bf16", Site("n", (10, 13), compute_capability=(7, 2)), {}, DeviceError, "has no BF16"),
    ("fp32", Site("n", (10, 3), compute_capability=(7, 2)), {"precision": "bf16"}, DeviceError, "has no BF16"),
    ("fp32", OLD, {"precision": "fp16", "keep_fp32": ("LRN", "conv9")}, UsageError, "no such layer"),
    ("fp16", ELEVEN, {"keep_fp32": ("conv1",)}, UsageError, "types come from the model"),
    ("fp32", OLD, {"dla_core": 0, "batch": (1, 2, 4)}, UsageError, "one batch"),
]


@pytest.mark.parametrize(("kind", "site", "options", "error", "words"), REFUSED)
def test_what_cannot_be_done_is_refused(
    kind: str, site: Site, options: dict[str, object], error: type[GoogLeNetDeployError], words: str
) -> None:
    with pytest.raises(error, match=words):
        plan(kind, site, **options)


def test_the_dla_takes_fp16_and_calibrated_int8() -> None:
    site = Site("n", (8, 5), dla_cores=2)
    assert plan("fp32", site, dla_core=1, precision="fp16").precision == "fp16"
    assert plan("fp32", site, dla_core=1, calibration_cache="c").flags == ("FP16", "INT8")
    assert plan("int8", Site("n", (11, 4), dla_cores=2), dla_core=1).strongly_typed


def test_bf16_flags_and_models() -> None:
    assert plan("fp32", TEN, precision="bf16").flags == ("BF16",)
    assert plan("bf16", Site("n", (10, 13), compute_capability=(8, 7))).strongly_typed


def test_layers_kept_by_name_are_said() -> None:
    result = plan("fp32", OLD, precision="fp16", keep_fp32=("conv1",))
    assert result.keep_fp32 == ("conv1",)
    assert "conv1 stays in FP32, as asked" in result.notes


def test_an_open_batch_without_a_profile_is_said() -> None:
    assert any("only single images" in note for note in plan("fp32", OLD).notes)
    assert not any("only single images" in note for note in plan("fp32", OLD, batch=(1, 8, 8)).notes)


def test_a_model_of_16_bits_that_is_too_new_leads_to_the_one_it_was_made_from() -> None:
    with pytest.raises(BadModelError, match="opset 22") as caught:
        plan_build(header("bf16", opset=22), "m.onnx", BuildOptions(), TEN13)
    assert "--precision" in (caught.value.remedy or "")
    with pytest.raises(BadModelError, match="reads up to 24"):
        plan_build(header(opset=25), "m.onnx", BuildOptions(), RTX)


def test_models_with_several_inputs() -> None:
    both = header()
    two = OnnxHeader(13, both.nodes, both.inputs * 2, (), {}, ModelMetadata())
    with pytest.raises(BadModelError, match=r"2 inputs \(image, image\)"):
        plan_build(two, "m.onnx", BuildOptions(), OLD)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        BuildOptions(calibration_count=0)


def test_opset_and_fixed_batch() -> None:
    with pytest.raises(BadModelError, match=r"opset 19.*reads up to 17"):
        plan_build(header(opset=19), "m.onnx", BuildOptions(), OLD)
    with pytest.raises(BadModelError, match="fixed batch 2"):
        plan_build(header(batch=2), "m.onnx", BuildOptions(batch=(1, 8, 8)), OLD)
    assert plan_build(header(batch=2), "m.onnx", BuildOptions(batch=(2, 2, 2)), OLD)


def test_options_from_text() -> None:
    assert parse_size("512M") == 512 * 2**20
    assert parse_size("1.5GiB") == 3 * 2**29
    assert parse_batch("8") == (8, 8, 8)
    assert parse_batch("1,8,32") == (1, 8, 32)
    assert parse_capabilities("8.6, 12.0,8.6") == ((8, 6), (12, 0))


@pytest.mark.parametrize("text", ["", "0", "x", "3,2,1", "1,2", "-1", "0,1,2"])
def test_bad_batch(text: str) -> None:
    with pytest.raises(UsageError):
        parse_batch(text)


@pytest.mark.parametrize("text", ["", "0M", "-1M", "12Q", "many"])
def test_bad_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "86", "8.6,", "8.66", "a.b"])
def test_bad_capability(text: str) -> None:
    with pytest.raises(UsageError):
        parse_capabilities(text)


def trtexec(site: Site, kind: str = "fp32", **options: object) -> str:
    chosen = BuildOptions(**options)  # type: ignore[arg-type]
    model = header(kind)
    return trtexec_command(model, "m.onnx", "m.engine", chosen, plan_build(model, "m.onnx", chosen, site), site)


def test_trtexec_says_the_same_to_each_version() -> None:
    old = trtexec(OLD, "int8", batch=(1, 8, 32), workspace_bytes=2**28, timing_cache="t")
    for word in ("--fp16", "--int8", "--optShapes=image:8x3x8x8", "--memPoolSize=workspace:256", "--buildOnly"):
        assert word in old.split()
    assert "--stronglyTyped" in trtexec(TEN13, "fp16").split()
    assert "--fp16" not in trtexec(ELEVEN, "fp16")
    assert trtexec(RTX, compute_capabilities=((8, 6), (8, 9))).startswith("tensorrt_rtx ")
    assert "--computeCapabilities=8.6,8.9" in trtexec(RTX, compute_capabilities=((8, 6), (8, 9)))
    assert "--calib=c" in trtexec(OLD, calibration_cache="c").split()


def test_trtexec_gets_every_option() -> None:
    line = trtexec(
        TEN,
        precision="fp16",
        batch=(1, 2, 4),
        optimization_level=5,
        tactic_sources=("cudnn",),
        version_compatible=True,
        hardware_compatible="same-compute-capability",
        strip_plan=True,
        sparsity=True,
        tf32=False,
    ).split()
    for word in (
        "--precisionConstraints=prefer",
        "--layerPrecisions=norm:fp32",
        "--builderOptimizationLevel=5",
        "--tacticSources=+CUDNN,-CUBLAS,-CUBLAS_LT,-EDGE_MASK_CONVOLUTIONS,-JIT_CONVOLUTIONS",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=sameComputeCapability",
        "--stripWeights",
        "--sparsity=enable",
        "--noTF32",
        "--skipInference",
    ):
        assert word in line
    assert "--refit" in trtexec(TEN, refit=True).split()
    dla = trtexec(OLD, precision="fp16", dla_core=1, verbosity="names").split()
    assert {"--useDLACore=1", "--allowGPUFallback"} <= set(dla)
    assert "--profilingVerbosity=detailed" not in dla
    assert "--allowGPUFallback" not in trtexec(OLD, precision="fp16", dla_core=1, gpu_fallback=False).split()
    assert "--workspace=64" in trtexec(Site("TensorRT 8.2", (8, 2)), workspace_bytes=2**26).split()
    fixed = header(batch=2)
    options = BuildOptions()
    made = trtexec_command(fixed, "m.onnx", "e", options, plan_build(fixed, "m.onnx", options, OLD), OLD)
    assert "Shapes" not in made


def test_sparse_weights_are_pointed_out_where_the_engine_would_not_use_them() -> None:
    metadata = ModelMetadata(extra={"training_record": '{"options": {"sparsity": "2:4"}}'})
    sparse = replace(header(), metadata=metadata)
    for site, asked, told in ((TEN, False, True), (TEN, True, False), (RTX, False, False)):
        notes = plan_build(sparse, "m.onnx", BuildOptions(sparsity=asked), site).notes
        assert any("--sparsity" in note for note in notes) is told
    assert not any("--sparsity" in note for note in plan("fp32", TEN).notes)
