"""The Triton repository, held against Triton's published model-configuration proto."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from googlenet_deploy.device.engine.manifest import EngineManifest, sha256_bytes, write_engine
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.onnx_model.header import Value, read_onnx
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.errors import BadModelError, UsageError
from googlenet_deploy.export.passes.outputs import AppendTopK, SetBatch
from googlenet_deploy.graph.files import load_model, write_model
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.packaging.content import verify_bundle
from googlenet_deploy.packaging.protobuf_text import Enum, to_text
from googlenet_deploy.packaging.triton import TritonRequest, _config, _input_advice, write_triton
from tests.unit.packaging.conftest import NAMES, SPECIFICATION, Classifier


@pytest.fixture(scope="session")
def model_config(repository: Path) -> Any:
    """The message class ``inference.ModelConfig``."""
    data = (repository / "tests/data/triton/model_config.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.fixture
def request_int8(classifier: Classifier) -> TritonRequest:
    models = {"fp32": classifier.fp32, "int8": classifier.int8}
    return TritonRequest("googlenet", models, "int8", classifier.images)


def parsed(model_config: Any, path: Path) -> Any:
    """Reads a configuration as Triton does; an unknown field or a wrong type is an error."""
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config())


def test_the_configuration_is_tritons(request_int8: TritonRequest, tmp_path: Path, model_config: Any) -> None:
    write_triton(tmp_path / "bundle", request_int8)
    folder = tmp_path / "bundle/model_repository/googlenet"
    config = parsed(model_config, folder / "config.pbtxt")
    assert (config.name, config.platform, config.max_batch_size) == ("googlenet", "onnxruntime_onnx", 16)
    assert (folder / "1" / config.default_model_filename).read_bytes() == request_int8.models["int8"].read_bytes()
    (image,), (scores,) = config.input, config.output
    header = read_onnx(request_int8.models["int8"])
    assert (image.name, list(image.dims)) == (header.inputs[0].name, [3, 64, 64])
    assert (scores.name, list(scores.dims)) == ("logits", [10])
    types = model_config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
    assert image.data_type == scores.data_type == types["TYPE_FP32"].number
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert (folder / scores.label_filename).read_text(encoding="utf-8").splitlines() == list(NAMES)


def test_the_warm_up_is_a_prepared_photograph(
    request_int8: TritonRequest, tmp_path: Path, model_config: Any, classifier: Classifier
) -> None:
    write_triton(tmp_path / "bundle", request_int8)
    folder = tmp_path / "bundle/model_repository/googlenet"
    (warmup,) = parsed(model_config, folder / "config.pbtxt").model_warmup
    assert warmup.batch_size == 1
    (given,) = warmup.inputs.values()
    assert list(given.dims) == [3, 64, 64]
    data = np.fromfile(folder / "warmup" / given.input_data_file, np.float32).reshape(3, 64, 64)
    np.testing.assert_array_equal(data, preprocess(load_image(classifier.images[0].name), SPECIFICATION))
    assert (tmp_path / "bundle/request/image.bin").read_bytes() == data.tobytes()


def test_a_fixed_batch_is_part_of_the_dimensions(
    request_int8: TritonRequest, tmp_path: Path, model_config: Any
) -> None:
    model = PassManager().run(load_model(request_int8.models["fp32"]), [SetBatch(4)])
    write_model(tmp_path / "four.onnx", model)
    request = replace(request_int8, models={"fp32": tmp_path / "four.onnx"}, precision="fp32")
    result = write_triton(tmp_path / "bundle", request)
    folder = tmp_path / "bundle/model_repository/googlenet"
    config = parsed(model_config, folder / "config.pbtxt")
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [4, 3, 64, 64]
    assert not config.HasField("dynamic_batching")
    assert (folder / "warmup/image").stat().st_size == 4 * 4 * 3 * 64 * 64
    assert any("cannot batch" in note for note in result.notes)


def engine(folder: Path, classifier: Classifier, **changes: Any) -> Path:
    metadata = read_onnx(classifier.fp32).metadata.to_properties()
    manifest = EngineManifest(
        engine_sha256=sha256_bytes(b"engine"),
        engine_bytes=6,
        backend="tensorrt",
        tensorrt_version="10.3.0",
        compute_capabilities=("8.9",),
        gpu="",
        dialect="weakly typed",
        precision="int8",
        flags=(),
        options={},
        inputs=({"name": "input", "dtype": "float32", "shape": [None, 3, 64, 64]},),
        outputs=({"name": "logits", "dtype": "float32", "shape": [None, 10]},),
        batch=(1, 4, 8),
        layers=(),
        layers_note="",
        precision_shares={},
        device_memory_bytes=None,
        timing_cache_sha256="",
        calibration={},
        build_seconds=1.0,
        notes=(),
        source={"metadata": metadata},
        rebuild="",
    )
    write_engine(folder / "model.engine", b"engine", replace(manifest, **changes))
    return folder / "model.engine"


def test_an_engine_is_served_beside_it(
    request_int8: TritonRequest, classifier: Classifier, tmp_path: Path, model_config: Any
) -> None:
    write_triton(tmp_path / "bundle", replace(request_int8, engine=engine(tmp_path, classifier)))
    folder = tmp_path / "bundle/model_repository/googlenet_tensorrt"
    config = parsed(model_config, folder / "config.pbtxt")
    assert (config.name, config.platform, config.max_batch_size) == ("googlenet_tensorrt", "tensorrt_plan", 8)
    assert (folder / "1/model.plan").read_bytes() == b"engine"
    assert (folder / "warmup/image").exists()
    verify_bundle(tmp_path / "bundle")


def test_an_engine_of_one_image_is_not_batched(
    request_int8: TritonRequest, classifier: Classifier, tmp_path: Path, model_config: Any
) -> None:
    write_triton(tmp_path / "bundle", replace(request_int8, engine=engine(tmp_path, classifier, batch=(1, 1, 1))))
    config = parsed(model_config, tmp_path / "bundle/model_repository/googlenet_tensorrt/config.pbtxt")
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


def test_engines_that_do_not_fit_are_refused(
    request_int8: TritonRequest, classifier: Classifier, tmp_path: Path
) -> None:
    rtx = engine(tmp_path, classifier, backend="tensorrt-rtx")
    with pytest.raises(BadModelError, match="which Triton does not run"):
        write_triton(tmp_path / "bundle", replace(request_int8, engine=rtx))
    spec = replace(SPECIFICATION, scale=1.0).to_json()
    other = engine(tmp_path, classifier, source={"metadata": {"googlenet_deploy.preprocessing": spec}})
    with pytest.raises(BadModelError, match="built from another model"):
        write_triton(tmp_path / "bundle", replace(request_int8, engine=other))


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b"])
def test_names_that_are_no_folder_are_refused(request_int8: TritonRequest, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a name"):
        write_triton(tmp_path / "bundle", replace(request_int8, name=name))


def test_a_batch_below_one_is_refused(request_int8: TritonRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        write_triton(tmp_path / "bundle", replace(request_int8, max_batch=0))


def test_without_a_usable_image_zeros_warm_up_and_that_is_said(request_int8: TritonRequest, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    request = replace(request_int8, images=(ImageSource(str(tmp_path / "broken.png")),))
    result = write_triton(tmp_path / "bundle", request)
    assert any("zeros" in note for note in result.notes)
    assert not any((tmp_path / "bundle/request/image.bin").read_bytes())


def test_every_kind_of_value_survives_the_text_form(model_config: Any) -> None:
    text = 'quote " backslash \\ line \n tab \t return \r bell \x07 Möwe'
    message = {"name": text, "max_batch_size": 3, "instance_group": [{"kind": Enum("KIND_CPU"), "passive": True}]}
    config = text_format.Parse(to_text(message), model_config())
    assert config.name == text
    assert config.instance_group[0].passive
    nested = text_format.Parse(to_text({"optimization": {"eager_batching": False}}), model_config())
    assert nested.HasField("optimization")


def test_a_model_that_ranks_its_classes_has_no_labels(
    request_int8: TritonRequest, tmp_path: Path, model_config: Any
) -> None:
    write_model(tmp_path / "top.onnx", PassManager().run(load_model(request_int8.models["fp32"]), [AppendTopK(5)]))
    request = replace(request_int8, models={"fp32": tmp_path / "top.onnx"}, precision="fp32")
    result = write_triton(tmp_path / "bundle", request)
    folder = tmp_path / "bundle/model_repository/googlenet"
    config = parsed(model_config, folder / "config.pbtxt")
    assert [output.name for output in config.output] == ["top_k_values", "top_k_indices"]
    assert not any(output.label_filename for output in config.output)
    assert not (folder / "labels.txt").exists()
    names = (tmp_path / "bundle/request/class_names.txt").read_text(encoding="utf-8")
    assert names.splitlines() == list(NAMES)
    assert "top_k_indices" in (tmp_path / "bundle/README.txt").read_text(encoding="utf-8")
    assert any("ranks the classes itself" in note for note in result.notes)


def test_labels_belong_to_the_output_of_classes() -> None:
    outputs = (Value("features", "float32", (None, 64)), Value("scores", "float32", (None, 10, 1, 1)))
    config = _config("m", "onnxruntime_onnx", "model.onnx", 8, outputs[:1], outputs, names=10)
    assert ["label_filename" in tensor for tensor in config["output"]] == [False, True]
    ranked = (Value("top_k_values", "float32", (None, 10)), Value("top_k_indices", "int64", (None, 10)))
    config = _config("m", "onnxruntime_onnx", "model.onnx", 8, outputs[:1], ranked, names=10)
    assert not any("label_filename" in tensor for tensor in config["output"])


def test_the_readme_says_that_clients_send_frames() -> None:
    frames = " ".join(_input_advice(SPECIFICATION.with_frame_input((1080, 1920), "nv12")))
    assert "NV12 (BT.601) frames of 1080 x 1920" in frames
    assert "3,110,400 bytes" in frames, "one and a half bytes a pixel"
    assert "--frame-input" in " ".join(_input_advice(SPECIFICATION))
