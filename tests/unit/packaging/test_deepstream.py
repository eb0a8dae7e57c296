"""The DeepStream bundle: nvinfer's arithmetic gives the network what it was trained on, or the text says why not."""

from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.calibration.tensorrt_cache import load_cache
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.predictions import softmax
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK, SetBatch
from googlenet_deploy.export.passes.uint8_input import ScaleInput
from googlenet_deploy.export.samples import prepare, smooth_pictures
from googlenet_deploy.graph.edit import copy_model, rename_tensors
from googlenet_deploy.graph.files import load_model, read_metadata, store_metadata, write_model
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.packaging.content import verify_bundle
from googlenet_deploy.packaging.deepstream import label_line, split_normalisation, write_deepstream
from googlenet_deploy.packaging.deepstream_text import DeepStreamRequest, Detector, region
from tests.unit.packaging.conftest import SPECIFICATION, Classifier, logits_of


@pytest.fixture
def request_int8(classifier: Classifier) -> DeepStreamRequest:
    return DeepStreamRequest(load_target("jetpack-6.2"), "int8", {"fp32": classifier.fp32}, classifier.table, batch=4)


def read_config(path: Path) -> configparser.ConfigParser:
    """GLib's key files are what configparser reads, but for comments behind values."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def floats(text: str) -> list[float]:
    return [float(value) for value in text.split(";")]


def test_nvinfers_arithmetic_gives_the_networks_answers(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    write_deepstream(tmp_path / "bundle", request_int8)
    values = read_config(tmp_path / "bundle/config_infer_primary.txt")["property"]
    pixels = smooth_pictures(3, (64, 64), 3, seed=5)
    offsets = np.array(floats(values["offsets"]), np.float32)
    given = (float(values["net-scale-factor"]) * (pixels - offsets)).transpose(0, 3, 1, 2).astype(np.float32)
    probabilities = logits_of(tmp_path / "bundle" / values["onnx-file"], given)
    expected = softmax(logits_of(request_int8.models["fp32"], prepare(pixels, SPECIFICATION).astype(np.float32)))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_the_configuration_names_files_that_are_there(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    write_deepstream(tmp_path / "bundle", request_int8)
    manifest = verify_bundle(tmp_path / "bundle")
    assert (manifest.kind, manifest.target) == ("deepstream", "jetpack-6.2")
    values = read_config(tmp_path / "bundle/config_infer_primary.txt")["property"]
    for key in ("onnx-file", "labelfile-path", "int8-calib-file"):
        manifest.file(values[key])
    assert values["network-mode"] == "3", "INT8, and FP16 for the layers without a scale"
    assert values["model-engine-file"] == "model.onnx_b4_gpu0_best.engine"
    assert values["network-type"] == "1"
    assert values["model-color-format"] == "0"
    assert values["infer-dims"] == "3;64;64"
    assert values["batch-size"] == "4"
    header = read_onnx(tmp_path / "bundle/model.onnx")
    assert values["output-blob-names"] == header.outputs[0].name == "probabilities"
    labels = (tmp_path / "bundle/labels.txt").read_text(encoding="utf-8")
    assert labels.count("\n") == 1
    assert len(labels.split(";")) == int(values["num-detected-classes"]) == 10


def test_the_cache_is_for_the_targets_tensorrt_and_the_models_tensors(
    request_int8: DeepStreamRequest, tmp_path: Path
) -> None:
    write_deepstream(tmp_path / "bundle", request_int8)
    cache = load_cache(tmp_path / "bundle/int8.cache")
    assert cache.number == 100300
    tensors = {name for node in read_onnx(tmp_path / "bundle/model.onnx").nodes for name in node.inputs}
    convolved = {
        node.inputs[0] for node in read_onnx(tmp_path / "bundle/model.onnx").nodes if node.operator in ("Conv", "Gemm")
    }
    assert convolved <= set(cache.scales)
    assert "input" in tensors  # behind the multiplication, under its old name


def test_a_model_of_one_scale_is_not_multiplied(classifier: Classifier) -> None:
    factor, offsets, factors = split_normalisation(BVLC, "m")
    assert (factor, offsets, factors) == (1.0, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
    model = load_model(classifier.fp32)
    assert not ScaleInput((1.0, 1.0, 1.0)).run(copy_model(model))


def test_mean_and_std_of_scaled_pixels_become_offsets_of_pixels() -> None:
    factor, offsets, factors = split_normalisation(Preprocessing(), "m")
    assert factor == pytest.approx(1 / 255 / 0.229)
    assert offsets == pytest.approx((123.675, 116.28, 103.53))
    assert factors == pytest.approx((1, 0.229 / 0.224, 0.229 / 0.225))


def test_uint8_input_is_refused() -> None:
    with pytest.raises(BadModelError, match="nvinfer gives NCHW float32"):
        split_normalisation(SPECIFICATION.with_uint8_input(), "m")
    with pytest.raises(BadModelError, match="nvinfer does that on the GPU"):
        split_normalisation(SPECIFICATION.with_frame_input((720, 1280)), "m")


def test_a_factor_for_every_channel_is_needed(classifier: Classifier) -> None:
    with pytest.raises(VerificationError, match="2 channels"):
        PassManager().run(load_model(classifier.fp32), [ScaleInput((1.0, 2.0))])


@pytest.mark.parametrize(
    ("target", "table", "match"),
    [
        ("nano", True, "has no INT8"),
        ("orin-nano", False, "falls? back to FP16"),
        ("tensorrt-11", True, "has no calibration caches"),
        ("tensorrt-rtx", True, "not on TensorRT-RTX"),
    ],
)
def test_int8_that_cannot_be_is_refused(
    request_int8: DeepStreamRequest, tmp_path: Path, target: str, table: bool, match: str
) -> None:
    changed = replace(request_int8, target=load_target(target), table=request_int8.table if table else None)
    with pytest.raises(UsageError, match=match):
        write_deepstream(tmp_path / "bundle", changed)


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "0"), ("fp16", "2")])
def test_other_precisions_need_no_cache(
    request_int8: DeepStreamRequest, tmp_path: Path, precision: str, mode: str
) -> None:
    write_deepstream(tmp_path / "bundle", replace(request_int8, precision=precision, table=None))
    values = read_config(tmp_path / "bundle/config_infer_primary.txt")["property"]
    assert values["network-mode"] == mode
    assert "int8-calib-file" not in values
    assert not (tmp_path / "bundle/int8.cache").exists()


def test_the_region_of_interest_is_the_centre_crop(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    bvlc = replace(BVLC)
    assert region(bvlc, (1920, 1080)) == (487, 67, 945, 945)
    assert region(bvlc, (480, 640)) == (30, 110, 420, 420)
    assert region(replace(bvlc, resize=None), (640, 480)) == (208, 128, 224, 224)
    write_deepstream(tmp_path / "bundle", request_int8)
    values = read_config(tmp_path / "bundle/config_preprocess.txt")
    assert values["group-0"]["roi-params-src-0"] == "480;60;960;960"
    assert values["property"]["network-input-shape"] == "4;3;64;64"
    assert values["property"]["tensor-name"] == read_onnx(tmp_path / "bundle/model.onnx").inputs[0].name
    infer = read_config(tmp_path / "bundle/config_infer_primary.txt")["property"]
    assert values["user-configs"]["pixel-normalization-factor"] == infer["net-scale-factor"]
    assert values["user-configs"]["offsets"] == infer["offsets"]


def with_preprocessing(classifier: Classifier, path: Path, spec: Preprocessing) -> Path:
    """The small classifier, said to take images prepared in another way."""
    model = load_model(classifier.fp32)
    store_metadata(model, replace(read_metadata(classifier.fp32, model), preprocessing=spec))
    write_model(path, model)
    return path


def test_the_region_of_interest_of_a_stretch_is_the_part_of_each_side() -> None:
    stretched = Preprocessing(resize=(256, 320), crop=(224, 224), resize_mode="stretch")
    assert region(stretched, (1920, 1080)) == (288, 67, 1344, 945)
    assert region(replace(stretched, resize=None), (1920, 1080)) == (0, 0, 1920, 1080)
    assert region(replace(stretched, resize=None, resize_mode="letterbox"), (640, 480)) == (0, 0, 640, 480)


@pytest.mark.parametrize(
    ("mode", "aspect", "padding"), [("stretch", "0", None), ("letterbox", "1", "1"), ("short-side", "0", None)]
)
def test_nvinfer_scales_frames_as_the_model_was_trained(
    request_int8: DeepStreamRequest, classifier: Classifier, tmp_path: Path, mode: str, aspect: str, padding: str | None
) -> None:
    spec = replace(SPECIFICATION, resize=72 if mode == "short-side" else None, resize_mode=mode)
    fp32 = with_preprocessing(classifier, tmp_path / "m.onnx", spec)
    write_deepstream(tmp_path / "bundle", replace(request_int8, models={"fp32": fp32}, precision="fp16", table=None))
    for file in ("config_infer_primary.txt", "config_preprocess.txt"):
        values = read_config(tmp_path / "bundle" / file)["property"]
        assert values["maintain-aspect-ratio"] == aspect
        assert values.get("symmetric-padding") == padding
    text = (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    assert ("Region: nvinfer scales the whole frame" in text) == (mode == "short-side")
    assert "not antialiased" in text


def test_a_crop_out_of_a_letterbox_is_refused(
    request_int8: DeepStreamRequest, classifier: Classifier, tmp_path: Path
) -> None:
    spec = replace(SPECIFICATION, resize=72, resize_mode="letterbox")
    fp32 = with_preprocessing(classifier, tmp_path / "m.onnx", spec)
    with pytest.raises(BadModelError, match="crops a letterboxed image"):
        write_deepstream(
            tmp_path / "bundle", replace(request_int8, models={"fp32": fp32}, precision="fp16", table=None)
        )


def test_grey_bars_are_named(request_int8: DeepStreamRequest, classifier: Classifier, tmp_path: Path) -> None:
    spec = replace(SPECIFICATION, resize=None, resize_mode="letterbox", fill=(114,), antialias=False)
    fp32 = with_preprocessing(classifier, tmp_path / "m.onnx", spec)
    write_deepstream(tmp_path / "bundle", replace(request_int8, models={"fp32": fp32}, precision="fp16", table=None))
    text = (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    assert "nvinfer's are black, those of training have the value 114" in text
    assert "antialiased" not in text


def test_the_text_says_what_differs(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    write_deepstream(tmp_path / "bundle", request_int8)
    text = (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    for words in ("one scale for all channels", "whole frame", "not antialiased", "calibration cache, not from a Q/DQ"):
        assert words in text
    assert "480;60;960;960" in text


def test_semicolons_in_class_names_do_not_split_them() -> None:
    notes: list[str] = []
    assert label_line(("cat", "dog; wolf"), notes) == "cat;dog, wolf\n"
    assert "1 class names" in notes[0]


def test_a_fixed_batch_and_other_streams_are_refused(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    for size in (1, 3):
        path = tmp_path / f"{size}.onnx"
        write_model(path, PassManager().run(load_model(request_int8.models["fp32"]), [SetBatch(size)]))
        request = replace(request_int8, models={"fp32": path}, precision="fp16", table=None)
        with pytest.raises(UsageError, match=f"fixed to {size}, and nvinfer would build it for 4"):
            write_deepstream(tmp_path / "bundle", request)
        write_deepstream(tmp_path / f"{size}", replace(request, batch=size))
        assert f"batch-size={size}" in (tmp_path / f"{size}/config_infer_primary.txt").read_text()


@pytest.mark.parametrize(
    ("target", "version"), [("tensorrt-10.16", None), ("jetpack-7.2", None), ("orin-nano", (9, 1))]
)
def test_since_9_1_the_quantised_model_is_built_as_it_is(
    classifier: Classifier,
    request_int8: DeepStreamRequest,
    tmp_path: Path,
    target: str,
    version: tuple[int, int] | None,
) -> None:
    models = {"int8": classifier.int8}
    request = replace(request_int8, target=load_target(target), models=models, table=None, version=version)
    manifest = write_deepstream(tmp_path / "bundle", request).manifest
    values = read_config(tmp_path / "bundle/config_infer_primary.txt")["property"]
    assert (values["strongly-typed"], values["network-mode"]) == ("1", "0")
    assert values["model-engine-file"].endswith("_fp32.engine"), "nvinfer names the file by network-mode"
    assert "int8-calib-file" not in values
    assert manifest.precision == "int8"
    operators = [node.operator for node in read_onnx(tmp_path / "bundle/model.onnx").nodes]
    assert operators.count("QuantizeLinear") == [n.operator for n in read_onnx(classifier.int8).nodes].count(
        "QuantizeLinear"
    )
    text = (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    assert "INT8 (Q/DQ) ONNX with softmax" in text
    pixels = smooth_pictures(3, (64, 64), 3, seed=5)
    offsets = np.array(floats(values["offsets"]), np.float32)
    given = (float(values["net-scale-factor"]) * (pixels - offsets)).transpose(0, 3, 1, 2).astype(np.float32)
    probabilities = logits_of(tmp_path / "bundle/model.onnx", given)
    expected = softmax(logits_of(classifier.int8, prepare(pixels, SPECIFICATION).astype(np.float32)))
    np.testing.assert_allclose(probabilities, expected, atol=0.05)


def test_before_9_1_a_quantised_model_alone_is_refused(
    classifier: Classifier, request_int8: DeepStreamRequest, tmp_path: Path
) -> None:
    alone = replace(request_int8, models={"int8": classifier.int8}, table=None)
    for request in (alone, replace(alone, target=load_target("tensorrt-10.16"), version=(9, 0))):
        with pytest.raises(UsageError, match=r"before 9\.1 makes every precision of the FP32 model"):
            write_deepstream(tmp_path / "bundle", request)
    assert "strongly-typed" not in (written(tmp_path / "c", request_int8)).read_text()


def written(folder: Path, request: DeepStreamRequest) -> Path:
    write_deepstream(folder, request)
    return folder / request.config


def test_a_classifier_behind_a_detector(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    for detector, own, classes in ((Detector(1, (0, 2)), "2", "0;2"), (Detector(2), "3", None)):
        folder = tmp_path / own
        request = replace(request_int8, precision="fp16", table=None, detector=detector)
        values = read_config(written(folder, request))["property"]
        assert values["process-mode"] == "2"
        assert values["operate-on-gie-id"] == str(detector.gie_id)
        assert values.get("operate-on-class-ids") == classes
        assert values["gie-unique-id"] == own
        assert not (folder / "config_preprocess.txt").exists()
        text = (folder / "README.txt").read_text(encoding="utf-8")
        assert f"gie-unique-id={detector.gie_id}" in text
        assert "config_preprocess" not in text
        assert "whole object" in text


def test_the_text_says_where_the_results_of_regions_are(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    write_deepstream(tmp_path / "bundle", request_int8)
    text = (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    assert "hang on the region, not on an object" in text
    assert "NvDsRoiMeta" in text


def test_models_that_nvinfer_cannot_read_are_refused(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    write_model(tmp_path / "top.onnx", PassManager().run(load_model(request_int8.models["fp32"]), [AppendTopK(3)]))
    request = replace(request_int8, models={"fp32": tmp_path / "top.onnx"}, precision="fp16", table=None)
    with pytest.raises(BadModelError, match="top_k_values"):
        write_deepstream(tmp_path / "bundle", request)


def test_a_softmax_of_another_name_is_kept(request_int8: DeepStreamRequest, tmp_path: Path) -> None:
    model = PassManager().run(load_model(request_int8.models["fp32"]), [AppendSoftmax()])
    rename_tensors(model.graph, {"probabilities": "out"})
    write_model(tmp_path / "out.onnx", model)
    request = replace(request_int8, models={"fp32": tmp_path / "out.onnx"}, precision="fp16", table=None)
    values = read_config(written(tmp_path / "bundle", request))["property"]
    assert values["output-blob-names"] == "out"
    assert [node.operator for node in read_onnx(tmp_path / "bundle/model.onnx").nodes].count("Softmax") == 1
