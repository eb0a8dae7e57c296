"""ONNX Runtime without fusions, and the distance between two results."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime


def run(model: onnx.ModelProto, batch: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
    """Runs the Q/DQ graph node by node, without the fusions that change how it rounds."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, {"input": batch}), strict=True))


def sqnr(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to noise, in dB."""
    return float(10 * np.log10((reference**2).sum() / max(1e-30, ((reference - other) ** 2).sum())))
