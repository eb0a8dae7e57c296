"""Quantises one model by one method in its own process, so that time and peak memory are measured separately.

Called by quantization.py: ``quantization_worker.py METHOD MODEL OUTPUT IMAGE_LIST``; prints one line of JSON.
The time is that of the method itself, from decoding the first image to writing the model, without imports. Every
peer reads the same images through the same preprocessing.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from harness import peak_megabytes

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import BVLC

STRIDE = 32
# Damping of the weights' shift, relative to the inputs' mean variance; smaller is worse.
ASYMMETRIC = 3.0


def prepared(path: Path) -> np.ndarray:
    """One image as the network's input, float32 (1, 3, 224, 224)."""
    return preprocess(load_image(path), BVLC)[np.newaxis]


class Reader:
    """onnxruntime's CalibrationDataReader, by duck typing: one image at a time, in ranges if requested."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.set_range(0, len(paths))

    def set_range(self, start_index: int, end_index: int) -> None:
        self.iterator: Iterator[Path] = iter(self.paths[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        path = next(self.iterator, None)
        return None if path is None else {"input": prepared(path)}

    def __len__(self) -> int:
        return len(self.paths)


def onnxruntime_method(method: str, inputs_only: bool, **options: int) -> Callable[[Path, Path, list[Path]], None]:
    """ONNX Runtime's static quantiser: symmetric INT8 Q/DQ, per-channel weights."""

    def run(model: Path, output: Path, paths: list[Path]) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import CalibrationDataReader

        CalibrationDataReader.register(Reader)  # type: ignore[attr-defined]
        extra: dict[str, object] = {"ActivationSymmetric": True, "WeightSymmetric": True, **options}
        types = None
        if inputs_only:
            types = ["Conv", "Gemm"]
            extra["OpTypesToExcludeOutputQuantization"] = types
        quantize_static(
            str(model),
            str(output),
            Reader(paths),  # type: ignore[arg-type]
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=types,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options=extra,
        )

    return run


def model_optimizer(method: str) -> Callable[[Path, Path, list[Path]], None]:
    """NVIDIA Model-Optimizer's ONNX quantiser with its default placement; unquantised layers stay FP32."""

    def run(model: Path, output: Path, paths: list[Path]) -> None:
        from modelopt.onnx.quantization import quantize

        # It reads the whole model at batch 1, so the batch must be fixed.
        fixed = output.with_suffix(".fixed.onnx")
        proto = onnx.load(model)
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(proto, fixed)
        data = np.concatenate([prepared(path) for path in paths])
        quantize(
            str(fixed),
            quantize_mode="int8",
            calibration_data={"input": data},
            calibration_method=method,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=str(output),
            log_level="ERROR",
        )

    return run


def ours(*flags: str) -> Callable[[Path, Path, list[Path]], None]:
    """``googlenet-deploy quantize`` with `flags`, on the listed images."""

    def run(model: Path, output: Path, paths: list[Path]) -> None:
        from googlenet_deploy.cli.main import main

        listing = output.with_suffix(".txt")
        listing.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        command = ["quantize", str(model), "--images", str(listing), "--output", str(output), "--check-images", "0"]
        command += flags
        if main(command) != 0:
            raise SystemExit(f"googlenet-deploy {' '.join(command)} failed")

    return run


def ours_asymmetric(model: Path, output: Path, paths: list[Path]) -> None:
    """Learned rounding whose codes also compensate for the error of their inputs; see `learn_rounding`."""
    from googlenet_deploy.calibration.calibrate import open_source
    from googlenet_deploy.calibration.images import ImageSelection
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.graph.files import write_model
    from googlenet_deploy.quantization.quantize import QuantizationOptions, quantize
    from googlenet_deploy.quantization.refine.learned_rounding import learn_rounding

    selection = ImageSelection(tuple(ImageSource(str(path)) for path in paths), ())
    steps = [partial(learn_rounding, shift=ASYMMETRIC)]
    result = quantize(open_source(model), None, selection, QuantizationOptions(checked=0), after=steps)
    write_model(output, result.model)


METHODS: dict[str, Callable[[Path, Path, list[Path]], None]] = {
    "ours: plain rounding": ours("--refine", "none"),
    "ours: equalize": ours("--refine", "equalize"),
    "ours: weight-scales": ours("--refine", "weight-scales"),
    "ours: bias (the default)": ours("--refine", "bias"),
    "ours: rounding": ours("--refine", "rounding"),
    "ours: rounding, asymmetric": ours_asymmetric,
    "ours: best (weight-scales, rounding)": ours("--refine", "best"),
    "ours: offset": ours("--refine", "offset"),
    "ours: offset, bias": ours("--refine", "offset,bias"),
    "ours: offset, rounding": ours("--refine", "offset,rounding"),
    "ours: offset, best": ours("--refine", "offset,best"),
    "onnxruntime MinMax, default placement": onnxruntime_method("MinMax", inputs_only=False),
    "onnxruntime MinMax, inputs of Conv/Gemm": onnxruntime_method("MinMax", inputs_only=True),
    "onnxruntime Entropy, strides of 32, inputs": onnxruntime_method(
        "Entropy", inputs_only=True, CalibStridedMinMax=STRIDE
    ),
    "onnxruntime Entropy, inputs of Conv/Gemm": onnxruntime_method("Entropy", inputs_only=True),
    "Model-Optimizer max": model_optimizer("max"),
    "Model-Optimizer entropy": model_optimizer("entropy"),
}


def main() -> int:
    method, model, output, listing = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    paths = [Path(line) for line in Path(listing).read_text(encoding="utf-8").splitlines()]
    start = time.perf_counter()
    METHODS[method](Path(model), Path(output), paths)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_megabytes": peak_megabytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
