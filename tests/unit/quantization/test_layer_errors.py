"""Inner tensors beside the reference's, and the diagnosis of faults that are made on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.placement import ScaleGroup
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.images.pipeline import Batch
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.diagnosis import Evidence, Verdict, diagnose
from googlenet_deploy.evaluation.statistics import PairedDifference
from googlenet_deploy.graph.edit import copy_model, replace_nodes
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.layer_errors import (
    CalibrationRecord,
    InnerErrors,
    calibration_record,
    measure_files,
    measure_inner_errors,
)
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest

IMAGES = 48


def paired(images: np.ndarray) -> Iterator[tuple[Batch, Batch]]:
    for start in range(0, len(images), 4):
        batch = Batch(images[start : start + 4], [str(start + index) for index in range(4)])
        yield batch, batch


@pytest.fixture(scope="module")
def images(pictures: Callable) -> np.ndarray:
    """Pictures that no calibration here sees."""
    return np.asarray(pictures(IMAGES, seed=99))


@pytest.fixture(scope="module")
def sound(mini: Callable, pictures: Callable, calibrated: Callable) -> QuantizedModel:
    """The small GoogLeNet, quantised on 48 pictures."""
    return round_to_nearest(mini(), calibrated(mini(), pictures(48, seed=1)).table)


def measured(reference: onnx.ModelProto, model: onnx.ModelProto, images: np.ndarray) -> InnerErrors:
    return measure_inner_errors(reference, model, paired(images), len(images), quiet=True)


def verdicts(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    images: np.ndarray,
    record: CalibrationRecord | None = None,
    **evidence: Any,
) -> tuple[list[Verdict], Evidence]:
    """The diagnosis, with the reference's answers as labels."""
    wanted, got = (TensorSession(each).run(images)["logits"] for each in (reference, model))
    agreement = Agreement()
    agreement.add(wanted, got)
    labels, best = wanted.argmax(axis=1).tolist(), got.argmax(axis=1).tolist()
    right = [answer == label for answer, label in zip(best, labels, strict=True)]
    inner = measured(reference, model, images)
    known = record or CalibrationRecord(48, dict.fromkeys((use.tensor for use in inner.ranges), 0.0005))
    ranges = tuple(replace(use, expected=known.saturated.get(use.tensor)) for use in inner.ranges)
    given = Evidence(
        agreement=agreement,
        paired=PairedDifference.of(right, [True] * len(right)),
        best=best,
        reference_best=labels,
        labels=labels,
        classes=wanted.shape[1],
        reference_right=1.0,
        layers=inner.layers,
        ranges=ranges,
        ahead_of_lrn=inner.ahead_of_lrn,
        calibration_images=known.images,
        **evidence,
    )
    return diagnose(given), given


def first(found: tuple[list[Verdict], Evidence]) -> Verdict:
    verdict = found[0][0]
    assert verdict.severity == "problem", found[0]
    return verdict


class TestMeasurement:
    """What is measured, on models whose errors are known."""

    def test_a_model_beside_itself_has_no_error(self, mini: Callable, images: np.ndarray) -> None:
        inner = measured(mini(), mini(), images[:8])
        graph = GraphView(mini())
        assert [layer.tensor for layer in inner.layers][:4] == ["conv1", "maxpool1", "norm1", "conv2"]
        assert inner.layers[0].name == "conv1/conv", "a layer bears its own name, not its ReLU's"
        assert len(inner.layers) == len(graph.nodes) - sum(node.op_type == "Relu" for node in graph.nodes)
        assert all(layer.sqnr == 200 and layer.drop == 0 for layer in inner.layers)
        assert inner.ranges == ()
        assert inner.images == 8

    def test_each_tensor_is_that_of_both_models(self, sound: QuantizedModel, images: np.ndarray) -> None:
        model = sound.build()
        inner = measured(sound.model, model, images[:8])
        names = [layer.tensor for layer in inner.layers]
        graph = GraphView(model)
        seen = {}
        for name in names:
            pairs = [each for each in graph.readers(name) if each.op_type == "QuantizeLinear"]
            seen[name] = graph.readers(pairs[0].output[0])[0].output[0] if pairs else name
        wanted = TensorSession(sound.model, names).run(images[:8])
        got = TensorSession(model, list(seen.values())).run(images[:8])
        for layer in inner.layers:
            noise = ((wanted[layer.tensor] - got[seen[layer.tensor]]) ** 2).sum()
            assert layer.sqnr == pytest.approx(10 * math.log10((wanted[layer.tensor] ** 2).sum() / noise), abs=0.05)
            assert layer.unrounded >= layer.sqnr - 1.5
        assert inner.layers[-1].before is not None

    def test_ranges_are_counted(self, sound: QuantizedModel, images: np.ndarray) -> None:
        name = "inception3a"
        narrow = replace(sound, scales={**sound.scales, **dict.fromkeys(sound.plan.group_of(name).members, 0.002)})
        model = narrow.build()
        inner = measured(narrow.model, model, images)
        use = next(each for each in inner.ranges if each.tensor == name)
        values = TensorSession(model, [name]).run(images)[name]
        assert use.high == pytest.approx(127.5 * 0.002)
        assert use.saturated == pytest.approx((values > use.high).mean(), rel=0.02)
        assert use.used == pytest.approx(values.max() / use.high, rel=0.02), "the largest of another optimised graph"
        assert [each.tensor for each in inner.ranges] == list(sound.plan.tensors)
        assert [each.tensor for each in inner.ranges if each.is_input] == ["input"]

    def test_pairs_ahead_of_lrn_are_named(self, sound: QuantizedModel, images: np.ndarray) -> None:
        assert measured(sound.model, sound.build(), images[:4]).ahead_of_lrn == ()

    def test_models_without_a_name_in_common_are_refused(self, mini: Callable, net: Callable, images: Any) -> None:
        other = net()
        other.classifier(other.conv("input", "something", 4))
        model = other.model()
        for node in model.graph.node:
            for index, name in enumerate(node.output):
                if name in ("average_pool", "flatten"):
                    node.output[index] = f"other {name}"
            for index, name in enumerate(node.input):
                if name in ("average_pool", "flatten"):
                    node.input[index] = f"other {name}"
        model.graph.node[-1].output[0] = model.graph.output[0].name = "scores"
        with pytest.raises(BadModelError, match="no inner tensor in common"):
            measured(mini(), model, images[:4])

    def test_equal_names_of_other_shapes_are_left_out(self, mini: Callable, net: Callable, images: Any) -> None:
        other = net()
        other.classifier(other.conv(other.conv("input", "conv1", 4), "conv2", 4))
        inner = measured(mini(), other.model(), images[:4])
        assert {layer.tensor for layer in inner.layers} == {"logits"}

    def test_what_the_model_says_of_its_calibration(self, mini: Callable) -> None:
        model = mini()
        assert calibration_record(model) == CalibrationRecord()
        entry = model.metadata_props.add(key="googlenet_deploy.quantization")
        entry.value = '{"calibration_images":7,"saturated":{"conv1":0.25}}'
        assert calibration_record(model) == CalibrationRecord(7, {"conv1": 0.25})
        for damaged in ("[]", "{", '{"saturated":3}', '{"calibration_images":"many"}'):
            entry.value = damaged
            assert calibration_record(model) == CalibrationRecord()

    def test_files_with_fixed_batches_and_their_own_preprocessing(
        self,
        mini: Callable,
        sound: QuantizedModel,
        model_file: Callable,
        picture_folder: Path,
        specification: Preprocessing,
    ) -> None:
        names = [str(path) for path in sorted(picture_folder.iterdir())]
        fixed = replace(sound, model=mini(batch=1))
        files = model_file(mini(), "fp32.onnx"), model_file(fixed.build(), "int8.onnx")
        same = measure_files((files[0], specification), (files[1], specification), names, 6, quiet=True)
        assert same.images == 6
        other = replace(specification, channels="RGB", mean=specification.mean[::-1])
        mixed = measure_files((files[0], specification), (files[1], other), names, 6, quiet=True)
        assert mixed.layers[0].sqnr < same.layers[0].sqnr - 10


class TestFaults:
    """Each fault made on purpose is the one that is named."""

    def test_none(self, sound: QuantizedModel, images: np.ndarray) -> None:
        found, evidence = verdicts(sound.model, sound.build(), images)
        assert evidence.is_sound
        assert {verdict.severity for verdict in found} <= {"note", "fine"}
        assert found[-1].cause == "sound"

    def test_another_scale_of_the_images(
        self, mini: Callable, pictures: Callable, calibrated: Callable, images: np.ndarray
    ) -> None:
        table = calibrated(mini(), pictures(48, seed=1) / 255).table
        verdict = first(verdicts(mini(), round_to_nearest(mini(), table).build(), images))
        assert verdict.cause == "preprocessing"
        assert "prepared differently" in verdict.text

    def test_preprocessing_that_the_models_state(
        self, sound: QuantizedModel, mini_table: CalibrationTable, images: Any
    ) -> None:
        noisy = replace(sound, scales={name: 4 * scale for name, scale in sound.scales.items()})
        found = verdicts(
            sound.model, noisy.build(), images, preparation={"channels": ("RGB", "BGR"), "scale": (1.0, 0.5)}
        )
        texts = [verdict.text for verdict in found[0] if verdict.cause == "preprocessing"]
        assert "channels RGB against BGR; scale 1.0 against 0.5" in texts[0]

    def test_images_of_another_kind(
        self, mini: Callable, pictures: Callable, calibrated: Callable, images: np.ndarray
    ) -> None:
        """Grey, flat pictures: the image's own range holds, since one bright spot fills it."""
        dull = pictures(48, seed=1) * 0.1
        dull[:, :, 0, 0] = images.max()
        dull[:, :, 0, 1] = images.min()
        table = calibrated(mini(), dull).table
        record = CalibrationRecord(48, {name: 0.0 for each in table.records for name in each.members})
        verdict = first(verdicts(mini(), round_to_nearest(mini(), table).build(), images, record))
        assert verdict.cause == "calibration images"
        assert "calibration saw unlike images" in verdict.text

    def test_too_few_images(self, mini: Callable, pictures: Callable, calibrated: Callable, images: np.ndarray) -> None:
        table = calibrated(mini(), pictures(48, seed=1)[:1] * 0.6).table
        record = CalibrationRecord(1, {name: 0.0 for each in table.records for name in each.members})
        found, _ = verdicts(mini(), round_to_nearest(mini(), table).build(), images, record)
        text = next(verdict.text for verdict in found if verdict.cause == "calibration images")
        assert "it was calibrated on 1 image only" in text

    @pytest.mark.parametrize(
        ("factor", "cause"), [(0.04, "saturated tensor"), (40.0, "range too wide")], ids=["narrow", "wide"]
    )
    def test_a_scale_that_is_wrong(self, sound: QuantizedModel, images: np.ndarray, factor: float, cause: str) -> None:
        members = sound.plan.group_of("inception3a").members
        scales = {name: scale * (factor if name in members else 1) for name, scale in sound.scales.items()}
        verdict = first(verdicts(sound.model, replace(sound, scales=scales).build(), images))
        assert verdict.cause == cause
        assert "inception3a" in verdict.text

    def test_a_pair_ahead_of_lrn(self, sound: QuantizedModel, images: np.ndarray) -> None:
        plan = sound.plan
        values = TensorSession(sound.model, ["maxpool1"]).run(images)["maxpool1"]
        plan = replace(
            plan,
            tensors=(*plan.tensors, "maxpool1"),
            groups=(*plan.groups, ScaleGroup(("maxpool1",), ("maxpool1",))),
            readers={**plan.readers, "maxpool1": frozenset({"norm1"})},
        )
        scales = {**sound.scales, "maxpool1": float(values.max()) / 20}
        verdict = first(verdicts(sound.model, replace(sound, plan=plan, scales=scales).build(), images))
        assert verdict.cause == "float operator in between"
        assert "maxpool1/DequantizeLinear" in verdict.text
        assert "--repair" in verdict.text

    def test_weights_that_are_wrong(self, sound: QuantizedModel, images: np.ndarray) -> None:
        weights = dict(sound.weights)
        name = "inception4a/branch2/1/conv"
        weights[name] = replace(weights[name], values=np.roll(weights[name].values, 1, axis=0))
        verdict = first(verdicts(sound.model, replace(sound, weights=weights).build(), images))
        assert verdict.cause == "layer"
        assert f"Conv {name} alone" in verdict.text

    def test_relus_that_are_gone(self, sound: QuantizedModel, images: np.ndarray) -> None:
        model = sound.build()
        renamed = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Relu"}
        kept = [node for node in model.graph.node if node.op_type != "Relu"]
        for node in kept:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        replace_nodes(model.graph, kept)
        for node in model.graph.node:  # a quantiser names the convolution's output after the ReLU's
            node.output[:] = [next((new for new, old in renamed.items() if old == name), name) for name in node.output]
            node.input[:] = [next((new for new, old in renamed.items() if old == name), name) for name in node.input]
        verdict = first(verdicts(sound.model, model, images))
        assert verdict.cause == "layer"
        assert "conv1/conv" in verdict.text

    def test_one_class_for_all(self, sound: QuantizedModel, images: np.ndarray) -> None:
        biases = {"logits": np.array([0, 0, 99, 0, 0, 0], np.float32)}
        found, _ = verdicts(sound.model, replace(sound, biases=biases).build(), images)
        text = next(verdict.text for verdict in found if verdict.cause == "collapse")
        assert "the same class to every image, 2" in text
        assert "logits" in text

    def test_noise_everywhere_is_not_blamed_on_one_place(self, sound: QuantizedModel, images: np.ndarray) -> None:
        scales = {name: 3.5 * scale for name, scale in sound.scales.items()}
        found, evidence = verdicts(sound.model, replace(sound, scales=scales).build(), images)
        assert not evidence.is_sound
        assert found[0].cause in ("unexplained", "preprocessing")
        assert not [verdict for verdict in found if verdict.cause in ("layer", "saturated tensor")]


def test_the_models_are_not_changed(sound: QuantizedModel, images: np.ndarray) -> None:
    model = sound.build()
    before = copy_model(model), copy_model(sound.model)
    measured(sound.model, model, images[:4])
    assert (model, sound.model) == before
