"""The bundle for jetson-inference, held against the program's preprocessing as its CUDA kernel computes it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.hosts import find_host, host_input
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.predictions import softmax
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.errors import BadModelError, UsageError
from googlenet_deploy.export.host import model_for_host
from googlenet_deploy.export.passes.host_input import HostInput
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK, SetBatch
from googlenet_deploy.export.samples import prepare, smooth_pictures
from googlenet_deploy.graph.files import load_model, read_metadata, store_metadata, write_model
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.packaging.content import verify_bundle
from googlenet_deploy.packaging.jetson_inference import (
    JetsonInferenceRequest,
    label_lines,
    write_jetson_inference,
)
from tests.unit.packaging.conftest import NAMES, SPECIFICATION, Classifier, logits_of

HOST = find_host("jetson-inference")
DATA = Path(os.environ.get("GOOGLENET_DEPLOY_DATA", "../shared/data"))


def kernel(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """gpuTensorNormMean: nearest pixel of the stretched frame, RGB, 0..1, ImageNet's mean and deviation; float32."""
    scale_x, scale_y = np.float32(frame.shape[1]) / np.float32(width), np.float32(frame.shape[0]) / np.float32(height)
    columns = (np.arange(width, dtype=np.float32) * scale_x).astype(np.int32)
    rows = (np.arange(height, dtype=np.float32) * scale_y).astype(np.int32)
    pixels = frame[rows][:, columns].astype(np.float32) * np.float32(1 / 255)
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((pixels - mean) / deviation).transpose(2, 0, 1)[np.newaxis]


def stretched(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same pixels without the arithmetic."""
    rows = np.arange(height) * frame.shape[0] // height
    return frame[rows][:, np.arange(width) * frame.shape[1] // width]


def run(path: Path, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])


def test_the_program_gets_the_answers_of_the_model(classifier: Classifier, tmp_path: Path) -> None:
    write_jetson_inference(tmp_path / "bundle", JetsonInferenceRequest(classifier.fp32))
    for number, frame in enumerate(smooth_pictures(3, (90, 131), 3, seed=4)):
        answers = run(tmp_path / "bundle/model.onnx", kernel(frame, 64, 64))
        assert answers.shape == (10,), "the program takes the first dimension for the number of classes"
        same_pixels = prepare(stretched(frame, 64, 64)[np.newaxis], SPECIFICATION)
        np.testing.assert_allclose(answers, softmax(logits_of(classifier.fp32, same_pixels))[0], atol=2e-5), number


def test_the_specification_says_what_the_kernel_computes() -> None:
    frame = smooth_pictures(1, (133, 77), 3, seed=9)[0]
    given = preprocess(Image.fromarray(frame), host_input(HOST, replace(SPECIFICATION, crop=(48, 64))))
    np.testing.assert_allclose(given, kernel(frame, 48, 64)[0], atol=1e-6)


SPECIFICATIONS = [
    pytest.param(BVLC, id="bvlc"),
    pytest.param(TORCHVISION, id="torchvision"),
    pytest.param(Preprocessing(), id="imagenet"),
    pytest.param(replace(BVLC, std=(58.0, 57.0, 57.5), channels="RGB"), id="deviation"),
]


def network(spec: Preprocessing, *, pads: int, bias: bool, first: str = "Conv") -> onnx.ModelProto:
    """A convolution over 12 x 12 with an average behind it; the numbers are fixed by a seed."""
    generator = np.random.default_rng(7)
    weights = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w")]
    names = ["image", "w"]
    if bias:
        constants.append(numpy_helper.from_array(generator.standard_normal(4).astype(np.float32), "b"))
        names.append("b")
    nodes = [
        helper.make_node("Conv", names, ["c"], "conv", pads=[pads] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["logits"], "flatten"),
    ]
    if first == "MaxPool":
        nodes[0].input[0] = "m"
        nodes.insert(0, helper.make_node("MaxPool", ["image"], ["m"], "first", kernel_shape=[1, 1]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    store_metadata(model, ModelMetadata(preprocessing=replace(spec, resize=16, crop=(12, 12))))
    return model


@pytest.mark.parametrize("spec", SPECIFICATIONS)
@pytest.mark.parametrize(("pads", "bias"), [(0, True), (0, False), (1, True), (1, False)])
def test_what_is_folded_computes_the_same(spec: Preprocessing, pads: int, bias: bool, tmp_path: Path) -> None:
    original = network(spec, pads=pads, bias=bias)
    write_model(tmp_path / "original.onnx", original)
    changed, _ = model_for_host(tmp_path / "original.onnx", original, HOST)
    write_model(tmp_path / "changed.onnx", changed)
    own = read_metadata("m", original).preprocessing
    assert own is not None
    for frame in smooth_pictures(4, (12, 12), 3, seed=3):
        expected = softmax(run(tmp_path / "original.onnx", prepare(frame[np.newaxis], own).astype(np.float32)))
        np.testing.assert_allclose(
            run(tmp_path / "changed.onnx", kernel(frame, 12, 12)), expected[0], rtol=1e-3, atol=1e-6
        )
    operators = [node.op_type for node in changed.graph.node]
    assert "Mul" not in operators, "the scale is linear, so the convolution takes it"
    # A shift ahead of the padding is not the same as one in the bias.
    assert ("Add" in operators) == (pads == 1 and spec != Preprocessing())


def test_in_front_of_anything_else_the_arithmetic_is_nodes(tmp_path: Path) -> None:
    original = network(BVLC, pads=1, bias=True, first="MaxPool")
    changed = PassManager().run(original, [HostInput(replace(BVLC, resize=16, crop=(12, 12)), HOST.normalization)])
    assert [node.op_type for node in changed.graph.node][:3] == ["Gather", "Mul", "Add"]
    write_model(tmp_path / "original.onnx", original)
    write_model(tmp_path / "changed.onnx", changed)
    frame = smooth_pictures(1, (12, 12), 3, seed=5)[0]
    expected = run(tmp_path / "original.onnx", prepare(frame[np.newaxis], replace(BVLC, resize=16, crop=(12, 12))))
    np.testing.assert_allclose(run(tmp_path / "changed.onnx", kernel(frame, 12, 12)), expected, rtol=1e-4)


def test_the_files_of_the_bundle(classifier: Classifier, tmp_path: Path) -> None:
    result = write_jetson_inference(tmp_path / "b", JetsonInferenceRequest(classifier.fp32, classifier.images))
    manifest = verify_bundle(tmp_path / "b")
    assert manifest.kind == "jetson-inference"
    model = load_model(tmp_path / "b/model.onnx")
    assert [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
    lines = (tmp_path / "b/labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"n{index:08d} {name}" for index, name in enumerate(NAMES)]
    text = (tmp_path / "b/README.txt").read_text(encoding="utf-8")
    options = f"--input_blob={model.graph.input[0].name} --output_blob={model.graph.output[0].name}"
    assert f"imagenet --model=model.onnx --labels=labels.txt {options}" in text
    assert any("of 12 images get the class" in note for note in result.notes)


def labels_as_the_program_reads_them(text: str) -> list[tuple[str, str]]:
    """tensorNet::LoadClassLabels, for lines below 512 bytes."""
    found = []
    for line in text.splitlines(keepends=True):
        assert len(line.encode()) < 512
        if len(line) > 9 and line[0] == "n" and line[9] == " ":
            found.append((line[:9], line[10:-1]))
        else:
            found.append((f"n{len(found):08d}", line.rstrip("\n")))
    return found


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("newspaper stand", "nightcaps x", "cat"), id="looks-like-an-id"),
        pytest.param(("dog\nwolf", "", "x" * 700), id="odd"),
        pytest.param(("Möwe", "Ente, Enterich", "n01440764 tench"), id="letters"),
    ],
)
def test_labels_are_read_as_they_are_meant(names: tuple[str, ...]) -> None:
    notes: list[str] = []
    read = labels_as_the_program_reads_them(label_lines(names, (), notes))
    assert len(read) == len(names)
    for (_, text), name in zip(read, names, strict=True):
        assert text == " ".join(name.split())[: len(text)] or (not name and text.isdigit())
    assert bool(notes) == any(len(name) > 490 for name in names)


def test_wordnet_ids_are_kept() -> None:
    assert label_lines(("tench",), ("n01440764",), []) == "n01440764 tench\n"
    assert label_lines(("tench",), ("fish",), []) == "n00000000 tench\n"


def test_what_the_program_cannot_feed_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    for number, (passes, match) in enumerate([([AppendTopK(2)], "top_k_values"), ([SetBatch(4)], "fixed to 4")]):
        path = tmp_path / f"{number}.onnx"
        write_model(path, PassManager().run(load_model(classifier.fp32), passes))
        with pytest.raises(BadModelError, match=match):
            write_jetson_inference(tmp_path / "x", JetsonInferenceRequest(path))
    with pytest.raises(BadModelError, match="is quantised"):
        write_jetson_inference(tmp_path / "x", JetsonInferenceRequest(classifier.int8))
    with pytest.raises(UsageError, match="can be configured"):
        model_for_host("m", load_model(classifier.fp32), find_host("deepstream"))


def test_probabilities_are_not_softened_twice(classifier: Classifier, tmp_path: Path) -> None:
    write_model(tmp_path / "p.onnx", PassManager().run(load_model(classifier.fp32), [AppendSoftmax()]))
    write_jetson_inference(tmp_path / "b", JetsonInferenceRequest(tmp_path / "p.onnx"))
    assert [node.op_type for node in load_model(tmp_path / "b/model.onnx").graph.node].count("Softmax") == 1


def test_the_command_prints_what_stretching_costs(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [Path(image.name).name for image in classifier.images]
    (tmp_path / "labels.csv").write_text("".join(f"{name},3\n" for name in names))
    command = ["bundle", "--kind", "jetson-inference", "--fp32", str(classifier.fp32), "--output", str(tmp_path / "b")]
    images = ["--images", str(classifier.folder / "images"), "--labels", str(tmp_path / "labels.csv")]
    assert main([*command, *images]) == 0
    captured = capsys.readouterr()
    assert "of 12 images get the class of the model's own preprocessing" in captured.err
    assert "right are" in captured.err
    assert main(["infer", str(tmp_path / "b/model.onnx"), classifier.images[0].name]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "imagenet-sample/labels.csv").exists(), reason="the photographs are not here")
def test_bvlcs_photographs_are_right_in_the_program(
    bvlc_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the change 0 of 100 of BVLC's answers were right in the program; stretching costs a few points."""
    write_jetson_inference(tmp_path / "b", JetsonInferenceRequest(bvlc_onnx))
    import csv

    rows = [row for row in csv.reader((DATA / "imagenet-sample/labels.csv").open()) if row and row[1].isdigit()][:40]
    right = 0
    for name, label in rows:
        with Image.open(DATA / "imagenet-sample/images" / name) as image:
            frame = np.asarray(image.convert("RGB"))
        right += int(run(tmp_path / "b/model.onnx", kernel(frame, 224, 224)).argmax() == int(label))
    with capsys.disabled():
        print(f"\njetson-inference: {right} of {len(rows)} of BVLC's photographs right")
    assert right >= len(rows) * 0.5


def test_export_makes_the_same_model_for_the_host(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "host.onnx"
    command = ["export", "--onnx", str(classifier.fp32), "--no-simplify", "--output", str(output)]
    assert main([*command, "--input-of", "jetson-inference"]) == 0
    frame = smooth_pictures(1, (70, 90), 3, seed=8)[0]
    expected = softmax(logits_of(classifier.fp32, prepare(stretched(frame, 64, 64)[np.newaxis], SPECIFICATION)))
    np.testing.assert_allclose(run(output, kernel(frame, 64, 64)), expected[0], atol=2e-5)
    assert main([*command, "--input-of", "toaster"]) == 2
    assert main([*command, "--input-of", "opencv"]) == 2
    assert main([*command, "--input-of", "jetson-inference", "--uint8-input"]) == 2
    assert "float32" in capsys.readouterr().err
