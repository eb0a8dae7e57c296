"""The network computes what the Q/DQ model of the same plan computes, before and after training."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from made_once import made_once
from PIL import Image
from plain_runtime import run, sqnr
from torch import nn

from googlenet_deploy.calibration.calibrate import CalibrationSource, calibrate, open_source
from googlenet_deploy.calibration.images import select_images
from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable, load_table
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.errors import BadModelError, VerificationError
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.pipeline import export_checkpoint
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest
from googlenet_deploy.quantization.refine.activation_offset import offset_activations, shift_tensors
from googlenet_deploy.quantization.refine.registry import parse_refinements, refinement_steps
from googlenet_deploy.training.qat.insert import (
    TrainedQuantization,
    extract,
    insert_fake_quantization,
    plain_layer,
)
from googlenet_deploy.training.qat.onnx_network import find_module, open_network
from googlenet_deploy.training.qat.quantizers import ActivationQuantizer, WeightQuantizer

SPECS = {
    "bvlc": replace(BVLC, resize=72, crop=(64, 64)),
    "torchvision": Preprocessing(resize=72, crop=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3),
}
PLACEMENTS = {
    "plain": PlacementOptions(),
    "dla": PlacementOptions(dla=True),
    "partly in float": PlacementOptions(
        quantize_input=False, excluded=frozenset({"inception4a/branch2/1/conv", "inception3b/branch4/0"})
    ),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures of smooth noise."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for index in range(16):
        small = Image.fromarray(generator.integers(0, 256, (9, 9, 3), np.uint8))
        small.resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{index:02d}.png")
    return folder


def small_network(architecture: str) -> GoogLeNet:
    """A net of an eighth of the width; BatchNorm with statistics that are not those of a fresh one."""
    torch.manual_seed(1)
    model = GoogLeNet(ARCHITECTURES[architecture], 7, width=0.125)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module", params=["bvlc", "torchvision"])
def model_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net of either kind as `export` writes it."""
    architecture = str(request.param)

    def export(folder: Path) -> None:
        checkpoint = Checkpoint(small_network(architecture), ARCHITECTURES[architecture], SPECS[architecture])
        result = export_checkpoint(checkpoint, ExportOptions(), seeded_samples(SPECS[architecture], 2))
        write_model(folder / "model.onnx", result.model)

    return made_once(tmp_path_factory, f"fake-quantized-{architecture}", export) / "model.onnx"


@pytest.fixture(scope="module")
def source(model_file: Path) -> CalibrationSource:
    return open_source(model_file)


@pytest.fixture(scope="module")
def table(
    model_file: Path, source: CalibrationSource, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> CalibrationTable:
    def save(folder: Path) -> None:
        calibrate(source, select_images(images, None)).table.save(folder / "table.json")

    return load_table(made_once(tmp_path_factory, f"{model_file.parent.name}-table", save) / "table.json")


def prepared(source: CalibrationSource, images: Path) -> np.ndarray:
    array: np.ndarray = next(iter(ImageBatches(find_images([images]).images[:8], source.preprocessing, 8))).array
    return array


@pytest.fixture(scope="module", params=[*PLACEMENTS, "weight-scales,offset,bias"])
def quantized(
    request: pytest.FixtureRequest, source: CalibrationSource, table: CalibrationTable, images: Path
) -> QuantizedModel:
    """What training starts from: plain rounding at different points, or refined."""
    if request.param in PLACEMENTS:
        return round_to_nearest(source.model, table, PLACEMENTS[request.param])
    result = round_to_nearest(source.model, table)
    batches = ImageBatches(find_images([images]).images, source.preprocessing, 4)
    for refinement in refinement_steps(parse_refinements(request.param), quiet=True)[1]:
        result = refinement(result, batches)
    return result


def rebuilt(trained: TrainedQuantization, quantized: QuantizedModel) -> onnx.ModelProto:
    """The INT8 model of a trained network."""
    made = QuantizedModel(trained.model, quantized.plan, quantized.table, trained.scales, trained.weights)
    return shift_tensors(made, trained.offsets).build()


def test_before_training_it_is_quantizes_own_model(
    source: CalibrationSource, quantized: QuantizedModel, images: Path, request: pytest.FixtureRequest
) -> None:
    network = open_network(source)
    insert_fake_quantization(network, quantized, learned=True)
    trained = extract(network, network.model, quantized)
    assert trained.changes == (1.0, 1.0)
    assert trained.offsets == pytest.approx(dict(quantized.offsets), rel=1e-6)
    for name, weight in quantized.weights.items():
        assert np.array_equal(trained.weights[name].values, weight.values), name
    if request.node.callspec.params["quantized"] in PLACEMENTS:
        assert rebuilt(trained, quantized).SerializeToString() == quantized.build().SerializeToString()
    batch = prepared(source, images)
    ours, theirs = (
        run(model, batch, ["logits"])["logits"] for model in (rebuilt(trained, quantized), quantized.build())
    )
    assert np.median([sqnr(a, b) for a, b in zip(theirs, ours, strict=True)]) > 60


def test_codes_that_are_not_the_nearest_are_where_training_begins(
    source: CalibrationSource, table: CalibrationTable
) -> None:
    plain = round_to_nearest(source.model, table)
    generator = np.random.default_rng(0)
    moved = {
        name: replace(weight, values=np.clip(weight.values + generator.integers(-1, 2, weight.values.shape), -127, 127))
        for name, weight in plain.weights.items()
    }
    quantized = replace(plain, weights=moved)
    network, untouched = open_network(source), open_network(source).model
    insert_fake_quantization(network, quantized, learned=True)
    trained = extract(network, network.model, quantized)
    for name, weight in moved.items():
        assert np.array_equal(trained.weights[name].values, weight.values), name
        original = plain_layer(network.model, name)[0].numpy()
        kept = weight.values == plain.weights[name].values
        floats = plain_layer(untouched, name)[0].numpy()
        assert np.array_equal(original.reshape(kept.shape)[kept], floats.reshape(kept.shape)[kept])


def test_offset_tensors_use_the_codes_below_zero(source: CalibrationSource, table: CalibrationTable) -> None:
    """The quantiser of an offset tensor has twice the codes above zero, of half the size, and keeps a zero."""
    network, quantized = open_network(source), offset_activations(round_to_nearest(source.model, table))
    insert_fake_quantization(network, quantized, learned=True)
    quantizers = network.model.get_submodule("quantizers")
    assert isinstance(quantizers, nn.ModuleList)
    moved = [
        (group, quantizer)
        for group, quantizer in zip(quantized.plan.groups, quantizers, strict=True)
        if group.observed[0] in quantized.offsets
    ]
    assert moved
    for group, quantizer in moved:
        assert isinstance(quantizer, ActivationQuantizer)
        largest = (quantizer.steps + 127) * quantized.scales[group.observed[0]]
        got = quantizer(torch.tensor([[0.0, largest, 2 * largest]])).flatten().tolist()
        assert got == pytest.approx([0.0, largest, largest])
        assert quantizer.steps > 64


def disturb(model: GoogLeNet) -> None:
    """Changes weights, biases and scales as training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # the scales of tensors that share an offset
                continue
            noise = torch.rand(parameter.shape, generator=generator) - 0.5
            factor = 0.4 if name.endswith("scale.value") else 0.1
            parameter.mul_(1 + factor * noise)


def test_after_training_pytorch_and_onnx_runtime_give_the_same_logits(
    source: CalibrationSource, quantized: QuantizedModel, images: Path
) -> None:
    network = open_network(source)
    insert_fake_quantization(network, quantized, learned=True)
    disturb(network.model)
    averaged = copy.deepcopy(network.model)  # what is written is a copy, as the average of the weights is
    trained = extract(network, averaged, quantized)
    model = rebuilt(trained, quantized)
    batch = prepared(source, images)
    with torch.inference_mode():
        ours = averaged(torch.from_numpy(batch)).numpy()
        plain = open_network(source).model(torch.from_numpy(batch)).numpy()
    theirs = run(model, batch, ["logits"])["logits"]
    each = [sqnr(a, b) for a, b in zip(theirs, ours, strict=True)]
    # A sum that ends a hair from the middle between two codes may round either way, which few images show; less few
    # where an offset, which is large beside most values, costs some digits.
    assert np.median(each) > (30 if quantized.offsets else 100)
    assert min(each) > 20
    assert sqnr(theirs, ours) > sqnr(plain, ours) + 6


def test_every_layer_on_its_own_computes_the_same_to_float_rounding(
    source: CalibrationSource, quantized: QuantizedModel, images: Path
) -> None:
    """Each layer is fed what ONNX Runtime fed it, so that no difference of rounding travels on."""
    network = open_network(source)
    insert_fake_quantization(network, quantized, learned=True)
    disturb(network.model)
    trained = extract(network, network.model, quantized)
    inputs = {node.name: f"{node.input}/dequantized" for node in quantized.plan.nodes}
    outputs = {node.name: network.graph.node(node.name).output[0] for node in quantized.plan.nodes}
    wanted = [*inputs.values(), *outputs.values()]
    values = run(rebuilt(trained, quantized), prepared(source, images), sorted(set(wanted)))
    for node in quantized.plan.nodes:
        layer, output = find_module(network.model, node.name), outputs[node.name]
        assert layer is not None
        behind = [reader.output[0] for reader in network.graph.readers(output)]
        with torch.inference_mode():
            whole = values[inputs[node.name]] + np.float32(trained.offsets.get(node.input, 0.0))
            got = layer(torch.from_numpy(whole)).numpy()
        theirs = values[output] + np.float32(sum(trained.offsets.get(name, 0.0) for name in behind))
        largest = np.abs(theirs).max() + (np.abs(whole).max() if node.input in trained.offsets else 0.0)
        assert np.abs(got - theirs).max() <= 2e-6 * largest * np.sqrt(layer.weight[0].numel()), node.name


def test_each_point_is_quantised_once(source: CalibrationSource, table: CalibrationTable) -> None:
    """A tensor that several layers read is rounded where it is made; a max-pool's output is rounded already."""
    network = open_network(source)
    quantized = round_to_nearest(source.model, table)
    plan = quantized.plan
    insert_fake_quantization(network, quantized, learned=True)
    quantizers = [m for m in network.model.modules() if isinstance(m, ActivationQuantizer)]
    assert len(quantizers) == len(plan.groups)
    assert len([m for m in network.model.modules() if isinstance(m, WeightQuantizer)]) == len(plan.nodes)
    calls = dict.fromkeys(range(len(quantizers)), 0)
    for index, quantizer in enumerate(quantizers):
        quantizer.register_forward_hook(lambda *_, index=index: calls.update({index: calls[index] + 1}))
    network.model(torch.zeros(1, 3, 64, 64))
    derived = sum(len(group.members) - len(group.observed) for group in plan.groups)
    assert sum(calls.values()) == len(plan.tensors) - derived
    assert min(calls.values()) == 1


def test_gradients_reach_every_weight_and_scale(source: CalibrationSource, table: CalibrationTable) -> None:
    network = open_network(source)
    quantized = round_to_nearest(source.model, table)
    insert_fake_quantization(network, quantized, learned=True)
    network.model(torch.randn(2, 3, 64, 64) * 50).square().sum().backward()
    without = [n for n, p in network.model.named_parameters() if p.grad is None]
    assert without == []


def changed(source: CalibrationSource, change: object) -> CalibrationSource:
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    assert callable(change)
    change(model)
    return replace(source, model=model)


def rename_first_convolution(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "stem"


def drop_first_bias(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[2:]


def rename_classifier(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Gemm").name = "head"


def widen_a_pool(model: onnx.ModelProto) -> None:
    """Another graph under the same names."""
    pool = next(node for node in model.graph.node if node.name == "maxpool3")
    pool.op_type = "AveragePool"
    del pool.attribute[:]
    pool.attribute.extend(
        onnx.helper.make_node("AveragePool", [], [], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1).attribute
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_first_convolution, "its layers are not those of a GoogLeNet: conv1/conv"),
        (drop_first_bias, "its layer conv1/conv has no bias"),
        (rename_classifier, "has no classifier named fc"),
    ],
)
def test_other_models_are_refused(source: CalibrationSource, change: object, message: str) -> None:
    with pytest.raises(BadModelError, match=message):
        open_network(changed(source, change))


def test_a_model_that_computes_something_else_is_refused(source: CalibrationSource) -> None:
    with pytest.raises(VerificationError, match="PyTorch's network computes something else"):
        open_network(changed(source, widen_a_pool))


def test_a_model_that_says_too_little_is_refused(source: CalibrationSource) -> None:
    with pytest.raises(BadModelError, match="does not state which GoogLeNet it is"):
        open_network(replace(source, properties={}))
    with pytest.raises(BadModelError, match="normalises images inside"):
        open_network(replace(source, preprocessing=source.preprocessing.with_uint8_input()))
