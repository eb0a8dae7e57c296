"""Results with everything in them, and results with next to nothing."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import pytest
from PIL import Image

from googlenet_deploy.analysis.prediction.predict import ModePrediction, PredictedValue
from googlenet_deploy.analysis.roofline import ModeBound
from googlenet_deploy.device.targets.target import PowerMode
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
from googlenet_deploy.report.figures import (
    MEASURED,
    PREDICTED,
    ActivationHistogram,
    Confusion,
    Disagreement,
    Example,
    Latency,
    Layer,
    MemoryStep,
    Quantity,
    Variant,
    VariantAnswer,
)
from googlenet_deploy.report.results import CheckResult, GateResult, Missing, Results, StepResult, Subject

SUBJECT = Subject(
    title="GoogLeNet (bvlc)",
    target="orin-nano",
    target_title="Jetson Orin Nano 8 GB",
    precision="int8",
    classes=1000,
    input="224 \N{MULTIPLICATION SIGN} 224",
    weights="weights.safetensors",
    weights_sha256="ab" * 32,
    calibration_images=256,
    evaluation_images=244,
    evaluation_set="photos",
)


def picture() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 40)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


FIFTEEN_WATTS = PowerMode("15W", 15.0, 625.0, 2133.0, None)
PREDICTION = ModePrediction(
    FIFTEEN_WATTS, PredictedValue(0.412, 0.3, 0.7, "network"), PredictedValue(7.77, 5.0, 9.0, "module"), 9.5, ()
)


def variants() -> tuple[Variant, ...]:
    bound = Quantity(0.26, "ms", PREDICTED, "Jetson Orin Nano 8 GB, 25W", 0.1, 0.31)
    fp32 = Variant(
        name="fp32",
        file="model.onnx",
        bytes=28_000_000,
        sha256="11" * 32,
        top1=Proportion(184, 244),
        top5=Proportion(226, 244),
    )
    int8 = replace(
        fp32,
        name="int8",
        file="model.int8.onnx",
        top1=Proportion(183, 244),
        difference=PairedDifference(1, 2, 244),
        agreement=Proportion(240, 244),
        sqnr=29.37,
        divergence=0.0023,
        latency=bound,
        energy=Quantity(6.55, "mJ", PREDICTED, bound.where, 5.1, 8.2),
        memory=Quantity(823.0, "MB", PREDICTED, bound.where, 255.0, 939.0),
        shares={"int8": 0.98, "fp16": 0.02},
    )
    measured = Quantity(22.7, "ms", MEASURED, "this machine", 22.1, 23.2)
    return (
        replace(fp32, latency=replace(bound, value=1.98, low=1.1, high=1.98)),
        int8,
        replace(int8, name="fp16", latency=measured),
    )


@pytest.fixture
def full() -> Results:
    """Every part is there."""
    return Results(
        subject=SUBJECT,
        created="2026-01-02 03:04 UTC",
        tool_version="1.2.3",
        steps=(
            StepResult("export", "done", 18.2, "FP32 ONNX"),
            StepResult("calibrate", "unchanged", 100.0, "256 images"),
            StepResult("build", "left out", 0.0, "no TensorRT here"),
        ),
        gates=(GateResult("agreement", "at least 98 %", "98.4 %", True),),
        checks=(CheckResult("ONNX equals PyTorch", True, "largest difference 2e-05"),),
        variants=variants(),
        layers=tuple(
            Layer(
                f"inception{index}/conv",
                "Conv",
                "int8" if index % 5 else "fp16",
                10**6 * index,
                1000,
                2000,
                1.5,
                "memory",
                None,
                20.0 + index,
                0.5 * index,
            )
            for index in range(1, 30)
        ),
        histograms=tuple(
            ActivationHistogram(
                0.5,
                (100, 20, 3, 0, 1),
                tensor=f"tensor {index}",
                maximum=2.4,
                amax={"max": 2.4, "mse": 2.0},
                chosen=2.0,
                rule="mse",
                clipped=1e-4,
                sqnr=25.0 + index,
            )
            for index in range(3)
        ),
        sensitivity=tuple(
            LayerSensitivity(f"layer {index}", "Conv", 10**6, 1000, 99.0, 30.0 + index, 0.01, 1e-3)
            for index in range(5)
        ),
        kept_in_float=("layer 0",),
        memory=tuple(MemoryStep(f"inception{index}/conv", 10**6 - 1000 * index) for index in range(10)),
        latencies=(
            Latency("fp32", "run", "this machine", 1, 400, 21.0, 41.0, {"p50": 22.0, "p95": 27.0, "p99": 33.0}),
            Latency("int8", "end_to_end", "this machine", 1, 400, 2.0, 41.0, {"p50": 3.0}),
        ),
        bounds={
            "int8": (
                ModeBound(FIFTEEN_WATTS, 0.15, 0.4, 0.5, 5.9e-3, (), PREDICTION),
                ModeBound(PowerMode("MAXN", None, 1020.0, 3199.0, None), 0.09, 0.25, 0.5, None, ()),
            )
        },
        disagreements=(
            Disagreement(
                "a.jpg", picture(), "cat", (VariantAnswer("fp32", "cat", 0.6), VariantAnswer("int8", "dog", 0.5))
            ),
        ),
        confusions=(Confusion("cat", "dog", 3, 20, 2, (Example("a.jpg", picture()),)),),
        environment={"Python": "3.11"},
        commands=("googlenet-deploy deploy --weights w",),
        artefacts={"model.onnx": "11" * 32},
        notes=("a note",),
        missing=(Missing("layer times", "no engine ran here"),),
    )


@pytest.fixture
def bare() -> Results:
    """Nothing is there but the subject and one reason."""
    return Results(
        SUBJECT, "2026-01-02 03:04 UTC", "1.2.3", missing=(Missing("accuracy", "the images have no labels"),)
    )
