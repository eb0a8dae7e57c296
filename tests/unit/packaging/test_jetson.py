"""The Jetson bundle: what is in it, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.calibration.table import load_table
from googlenet_deploy.calibration.tensorrt_cache import load_cache
from googlenet_deploy.device.bundle.golden import MIN_SQNR, read_array, read_golden
from googlenet_deploy.device.class_files import read_class_names
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, BadTableError, InputError, UsageError, VerificationError
from googlenet_deploy.graph.files import load_model, read_metadata, store_metadata, write_model
from googlenet_deploy.packaging import golden as golden_module
from googlenet_deploy.packaging.content import verify_bundle
from googlenet_deploy.packaging.jetson import JetsonRequest, int8_share, write_jetson
from tests.unit.packaging.conftest import NAMES, SPECIFICATION, Classifier, logits_of


def test_it_holds_what_a_device_needs(jetson_folder: Path) -> None:
    manifest = verify_bundle(jetson_folder)
    paths = {item.path for item in manifest.files}
    assert {"models/model.onnx", "models/model.int8.onnx", "calibration/table.json", "preprocessing.json"} <= paths
    assert {"class_names.txt", "googlenet-device.pyz", "build.sh", "self-test.sh", "README.txt"} <= paths
    assert {item.path for item in manifest.files if item.executable} == {
        "build.sh",
        "self-test.sh",
        "googlenet-device.pyz",
    }
    assert (manifest.kind, manifest.target, manifest.precision) == ("jetson", "orin-nano", "int8")
    assert set(manifest.made_from) == {
        "fp32_sha256",
        "int8_sha256",
        "table_sha256",
        "weights_sha256",
        "architecture",
    }


def test_classes_and_preprocessing_are_the_models(jetson_folder: Path) -> None:
    assert read_class_names(jetson_folder / "class_names.txt") == NAMES
    assert Preprocessing.from_json((jetson_folder / "preprocessing.json").read_text()) == SPECIFICATION


def test_each_tensorrt_of_the_target_has_its_cache(jetson_folder: Path) -> None:
    numbers = {path.name: load_cache(path).number for path in (jetson_folder / "calibration").glob("*.cache")}
    assert numbers == {
        "tensorrt-8.5.cache": 8502,
        "tensorrt-8.6.cache": 8602,
        "tensorrt-10.3.cache": 100300,
        "tensorrt-10.16.cache": 101602,
    }


def test_golden_scores_are_those_of_the_models(jetson_folder: Path) -> None:
    golden = read_golden(jetson_folder)
    pixels = read_array(jetson_folder, "golden/pixels.npy")
    batch = np.stack([normalize(image, SPECIFICATION) for image in pixels])
    assert [model.model for model in golden.models] == ["models/model.int8.onnx", "models/model.onnx"]
    assert golden.engine_min_sqnr == MIN_SQNR["int8"]
    for model in golden.models:
        scores = logits_of(jetson_folder / model.model, batch)
        np.testing.assert_array_equal(read_array(jetson_folder, model.scores), scores)
        assert scores.argmax(axis=1).tolist() == [image.index for image in golden.images]
    first = np.fromfile(jetson_folder / "golden/trtexec/0.bin", np.float32)
    np.testing.assert_array_equal(first, batch[0].ravel())
    expected = np.loadtxt(jetson_folder / "golden/trtexec/0.txt", dtype=np.float32)
    np.testing.assert_array_equal(expected, read_array(jetson_folder, golden.models[0].scores)[0])


def test_the_clearest_answers_of_many_classes_are_chosen() -> None:
    scores = np.zeros((5, 4), np.float32)
    for image, (index, margin) in enumerate([(0, 9), (0, 8), (1, 2), (2, 5), (3, 4)]):
        scores[image, index] = margin
    other = scores.copy()
    other[4] = [1, 0, 0, 0]  # the second model disagrees on the last image
    assert golden_module._clearest([scores, other], 3) == [0, 2, 3]
    assert golden_module._clearest([scores, other], 9) == [0, 1, 2, 3]


def test_models_that_never_agree_are_refused() -> None:
    first, second = np.eye(3, dtype=np.float32), np.roll(np.eye(3, dtype=np.float32), 1, axis=1)
    with pytest.raises(VerificationError, match="different classes"):
        golden_module._clearest([first, second], 3)


def test_equal_requests_give_equal_bytes(request_int8: JetsonRequest, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_jetson(tmp_path / name, request_int8)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_module_without_int8_gets_fp16_of_the_fp32_model(request_int8: JetsonRequest, tmp_path: Path) -> None:
    nano = replace(request_int8, target=load_target("nano"), precision="fp16")
    manifest = write_jetson(tmp_path / "nano", replace(nano, models={"fp32": nano.models["fp32"]})).manifest
    golden = read_golden(tmp_path / "nano")
    assert manifest.precision == "fp16"
    assert golden.models[0].model == "models/model.onnx"
    assert golden.engine_min_sqnr == MIN_SQNR["fp16"]
    assert not list((tmp_path / "nano").rglob("*.cache"))
    script = (tmp_path / "nano/build.sh").read_text()
    assert "build models/model.onnx --precision fp16" in script
    assert "8.2 | 8.2.*) set -- --onnx=models/model.onnx" in script
    text = (tmp_path / "nano/README.txt").read_text()
    assert "has no INT8 instructions" in text
    assert "Python 3.6" in text


def test_int8_for_a_module_without_it_is_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no INT8") as caught:
        write_jetson(tmp_path / "x", replace(request_int8, target=load_target("nano")))
    assert caught.value.remedy == "pass --precision fp16"


def test_rtx_is_no_jetson(request_int8: JetsonRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not for Jetsons"):
        write_jetson(tmp_path / "x", replace(request_int8, target=load_target("tensorrt-rtx")))


def test_a_precision_without_a_model_is_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no int8 model"):
        write_jetson(tmp_path / "x", replace(request_int8, models={"fp32": request_int8.models["fp32"]}))


def test_a_model_in_the_wrong_place_is_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    swapped = {"fp32": request_int8.models["int8"], "int8": request_int8.models["fp32"]}
    with pytest.raises(BadModelError, match="is not quantised"):
        write_jetson(tmp_path / "x", replace(request_int8, models=swapped))


def edited(source: Path, target: Path, change: Callable[[Preprocessing | None], Preprocessing | None]) -> Path:
    model = load_model(source)
    metadata = read_metadata(source, model)
    store_metadata(model, replace(metadata, preprocessing=change(metadata.preprocessing)))
    write_model(target, model)
    return target


def test_models_of_different_classifiers_are_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    other = edited(request_int8.models["fp32"], tmp_path / "other.onnx", lambda _: replace(SPECIFICATION, scale=1.0))
    with pytest.raises(BadModelError, match=r"is another classifier: scale 1.0"):
        write_jetson(tmp_path / "x", replace(request_int8, models={**request_int8.models, "fp32": other}))


def test_a_model_that_does_not_say_how_images_are_prepared_is_refused(
    request_int8: JetsonRequest, tmp_path: Path
) -> None:
    silent = edited(request_int8.models["fp32"], tmp_path / "silent.onnx", lambda _: None)
    with pytest.raises(BadModelError, match="does not state how its images are prepared"):
        write_jetson(tmp_path / "x", replace(request_int8, precision="fp32", models={"fp32": silent}))


def test_a_table_of_another_model_is_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    assert request_int8.table is not None
    replace(load_table(request_int8.table), model_sha256="0" * 64).save(tmp_path / "table.json")
    with pytest.raises(BadTableError, match="from another model"):
        write_jetson(tmp_path / "x", replace(request_int8, table=tmp_path / "table.json"))


def test_a_table_without_its_model_is_refused(request_int8: JetsonRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belongs to the FP32 model"):
        write_jetson(tmp_path / "x", replace(request_int8, models={"int8": request_int8.models["int8"]}))


def test_unusable_images_are_passed_over_and_none_is_refused(
    request_int8: JetsonRequest, classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    broken = ImageSource(str(tmp_path / "broken.jpg"))
    write_jetson(tmp_path / "some", replace(request_int8, images=(broken, *classifier.images[:3])))
    assert len(read_golden(tmp_path / "some").images) == 3
    for images in ((broken,), (ImageSource(str(tmp_path / "missing.jpg")),), ()):
        with pytest.raises(InputError, match="none can be packed"):
            write_jetson(tmp_path / "none", replace(request_int8, images=images))
    assert not (tmp_path / "none").exists()


def test_large_files_are_not_packed_as_golden_images(
    request_int8: JetsonRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_module, "LARGEST_IMAGE", 100)
    with pytest.raises(InputError, match="is larger than"):
        write_jetson(tmp_path / "x", request_int8)


def test_share_of_int8_is_by_multiply_adds(classifier: Classifier) -> None:
    assert int8_share(classifier.int8) == 1.0
    assert int8_share(classifier.fp32) == 0.0


def test_weights_only_bundles_need_no_table(request_int8: JetsonRequest, tmp_path: Path) -> None:
    write_jetson(
        tmp_path / "fp32.zip",
        replace(request_int8, precision="fp32", table=None, models={"fp32": request_int8.models["fp32"]}),
    )
    shutil.unpack_archive(tmp_path / "fp32.zip", tmp_path / "fp32")
    assert not (tmp_path / "fp32/calibration").exists()
    assert "calibration cache" not in (tmp_path / "fp32/README.txt").read_text()
