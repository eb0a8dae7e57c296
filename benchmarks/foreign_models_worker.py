"""Quantises a model with onnxruntime's `quantize_static`, and compares INT8 models with FP32 on held-back images.

onnxruntime quantises the inputs of Conv, Gemm and MatMul only, symmetric INT8, MinMax, weights per channel. All models
run in ONNX Runtime without optimisation, one image at a time: quantised models then compute exactly what their nodes
specify.

    python foreign_models_worker.py FP32.onnx OURS.onnx THEIRS.onnx PREPROCESSING.json CALIBRATION HELD_BACK OUTPUT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import Preprocessing

TYPES = ["Conv", "Gemm", "MatMul"]
SMALLEST = 1e-30  # of a probability, below float32's denormals: only 0 becomes it


class Reader:
    """onnxruntime's CalibrationDataReader, by duck typing: one image at a time."""

    def __init__(self, name: str, images: list[NDArray[np.generic]]) -> None:
        self.name, self.images = name, images
        self.set_range(0, len(images))

    def set_range(self, start_index: int, end_index: int) -> None:
        self.iterator: Iterator[NDArray[np.generic]] = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        image = next(self.iterator, None)
        return None if image is None else {self.name: image}

    def __len__(self) -> int:
        return len(self.images)


def prepared(path: Path, spec: Preprocessing) -> NDArray[np.generic]:
    """One image as the network's input, with a batch dimension of 1."""
    return preprocess(load_image(path), spec)[np.newaxis]


def quantize(model: Path, output: Path, images: list[NDArray[np.generic]]) -> None:
    """The static quantiser of onnxruntime, after its own preprocessing (shapes, fused BatchNorm)."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(Reader)  # type: ignore[attr-defined]
    ready = output.with_suffix(".ready.onnx")
    proto = onnx.load(model)
    if proto.opset_import[0].version < 13:
        proto = onnx.version_converter.convert_version(proto, 13)  # needed for weights per channel
    name = input_name(proto)
    onnx.save(proto, ready)
    quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready),
        str(output),
        Reader(name, images),  # type: ignore[arg-type]
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=TYPES,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": TYPES,
        },
    )


def input_name(proto: onnx.ModelProto) -> str:
    """The name of the image input; old models also list their initializers as inputs."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return next(value.name for value in proto.graph.input if value.name not in constants)


def scores(model: Path, images: list[NDArray[np.generic]]) -> NDArray[np.float64]:
    """The first output, a row for each image."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.stack([np.ravel(session.run(None, {name: image})[0]) for image in images]).astype(np.float64)


def compare(reference: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float | str | bool]:
    """SQNR in dB and agreement in percent; of probabilities, the SQNR is that of centred log-probabilities."""
    probabilities = bool(reference.min() >= 0 and np.allclose(reference.sum(1), 1, atol=1e-3))
    agreement = 100 * float((reference.argmax(1) == values.argmax(1)).mean())
    if probabilities:
        reference, values = centred_logarithms(reference), centred_logarithms(values)
    signal, noise = float((reference**2).sum()), float(((reference - values) ** 2).sum())
    constant = bool(np.ptp(reference, axis=0).max() <= 1e-6 * max(1.0, float(np.abs(reference).max())))
    sqnr = 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")
    of = "log-probabilities" if probabilities else "logits"
    return {"sqnr": sqnr, "agreement": agreement, "of": of, "constant": constant}


def centred_logarithms(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithms = np.log(np.maximum(probabilities, SMALLEST))
    centred: NDArray[np.float64] = logarithms - logarithms.mean(1, keepdims=True)
    return centred


def main() -> int:
    model, ours, theirs = map(Path, sys.argv[1:4])
    spec = Preprocessing.from_json(Path(sys.argv[4]).read_text(encoding="utf-8"))
    calibration, held_back = (
        [prepared(path, spec) for path in sorted(Path(folder).iterdir())] for folder in sys.argv[5:7]
    )
    figures: dict[str, object] = {}
    reference = scores(model, held_back)
    if ours.exists():
        figures["ours"] = compare(reference, scores(ours, held_back))
    try:
        quantize(model, theirs, calibration)
        figures["onnxruntime"] = compare(reference, scores(theirs, held_back))
    except Exception as error:  # noqa: BLE001 - whatever the peer raises is its result
        lines = str(error).strip().splitlines() or [""]
        figures["onnxruntime_failed"] = f"{type(error).__name__}: {lines[0][:200]}"
    Path(sys.argv[7]).write_text(json.dumps(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
