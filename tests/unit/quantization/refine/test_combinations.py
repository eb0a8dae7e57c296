"""Every combination of refinements on nets whose biases are absent or shared is as good as none of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
from mini_googlenet import CLASSES, Net
from PIL import Image

from googlenet_deploy.calibration.calibrate import CalibrationSource, open_source
from googlenet_deploy.calibration.images import ImageSelection, select_images
from googlenet_deploy.calibration.options import CalibrationOptions
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.quantization import quantize as module
from googlenet_deploy.quantization.quantize import QuantizationOptions, QuantizationResult
from googlenet_deploy.quantization.refine.registry import EQUALIZE, REFINEMENTS, refinement_steps

CALIBRATION = CalibrationOptions(quiet=True, threads=1)
HOLD_OUT, TOLERANCE = 24, 0.3

# Those that another one includes are left out beside it, so such a combination is the same run twice.
COMBINATIONS = [
    names
    for length in range(1, len(REFINEMENTS) + 1)
    for names in combinations(REFINEMENTS, length)
    if not any(REFINEMENTS[name].included_in in names for name in names)
]


def net_of(kind: str) -> onnx.ModelProto:
    """A 3x3 layer, two 1x1 layers and a classifier: no layer has a bias, or all but the classifier share one."""
    net = Net(5)
    top = net.conv("input", "stem", 12, 3)
    for name in ("c0", "c1"):
        top = net.conv(top, name, 12)
    net.classifier(top)
    for node in net.nodes:
        if node.op_type in ("Conv", "Gemm"):
            net.constants.pop(node.input.pop())
        if node.op_type == "Conv" and kind == "shared":
            node.input.append("bias of all")
    if kind == "shared":
        net.constant("bias of all", np.linspace(-0.4, 0.4, 12).astype(np.float32))
    assert [name for name in net.constants if "bias" in name] == (["bias of all"] if kind == "shared" else [])
    return net.model()


class Bench:
    """One net with its images; a model is calibrated once, however often it is quantised."""

    def __init__(self, kind: str, folder: Path, unseen: np.ndarray) -> None:
        path = folder / f"{kind}.onnx"
        write_model(path, net_of(kind))
        self.source, self.selection = open_source(path), select_images(folder, 16)
        self.unseen, self.wanted = unseen, scores(net_of(kind), unseen)
        self._calibrate = module.calibrate
        self._made: dict[bytes, object] = {}
        self.unrefined = self.sqnr(self.quantize((), HOLD_OUT))

    def calibrate(self, source: CalibrationSource, selection: ImageSelection, options: CalibrationOptions) -> object:
        key = source.model.SerializeToString(deterministic=True)
        if key not in self._made:
            self._made[key] = self._calibrate(source, selection, options)
        return self._made[key]

    def quantize(self, names: tuple[str, ...], checked: int) -> QuantizationResult:
        before, after = refinement_steps(names, threads=1, quiet=True)
        options = QuantizationOptions(calibration=CALIBRATION, checked=checked)
        with mock.patch.object(module, "calibrate", self.calibrate):
            return module.quantize(self.source, None, self.selection, options, before=before, after=after)

    def sqnr(self, result: QuantizationResult) -> float:
        """In dB, of the scores of images that neither calibration nor the check saw."""
        wanted, got = self.wanted, scores(result.model, self.unseen)
        return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()))


def scores(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (result,) = session.run(["logits"], {"input": images})
    assert result.shape == (len(images), CLASSES)
    return np.asarray(result, np.float64)


@pytest.fixture(scope="module", params=["absent", "shared"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., np.ndarray]
) -> Bench:
    folder = tmp_path_factory.mktemp(request.param)
    for index, pixels in enumerate(smooth_pictures(16 + HOLD_OUT, (16, 16), 3, seed=21)):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return Bench(request.param, folder, np.asarray(pictures(64, seed=22)))


@pytest.mark.parametrize("names", COMBINATIONS, ids=",".join)
def test_a_combination_is_as_good_as_none(bench: Bench, names: tuple[str, ...]) -> None:
    # Equalisation may harm, and relies on the hold-out images to be undone. The others are run without such images, as
    # a check would undo what reads biases that are no longer the graph's.
    result = bench.quantize(names, HOLD_OUT if EQUALIZE in names else 0)
    assert result.quantized.notes
    assert bench.sqnr(result) >= bench.unrefined - TOLERANCE


def test_the_nets_are_not_so_rough_that_anything_passes(bench: Bench) -> None:
    assert bench.unrefined > 25
