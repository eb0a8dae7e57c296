"""Results with everything in them, and results with next to nothing."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import pytest
from PIL import Image

from googlenet_deploy.report.results import (
    BOUND,
    MEASURED,
    Answer,
    Check,
    Difference,
    Disagreement,
    Gate,
    Latency,
    Layer,
    MemoryStep,
    Missing,
    ModeBound,
    Quantity,
    Results,
    Sensitivity,
    Share,
    Step,
    Subject,
    TensorHistogram,
    Variant,
)

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


def variants() -> tuple[Variant, ...]:
    bound = Quantity(0.26, "ms", BOUND, "Jetson Orin Nano 8 GB, 25W", 0.1, 0.26)
    fp32 = Variant(
        "fp32", "model.onnx", 28_000_000, "11" * 32, Share(184, 244, 69.6, 80.4), Share(226, 244, 88.5, 95.4)
    )
    int8 = replace(
        fp32,
        name="int8",
        file="model.int8.onnx",
        top1=Share(183, 244, 69.2, 80.0),
        difference=Difference(-0.41, -1.62, 0.8, 1, 2),
        agreement=Share(240, 244, 95.9, 99.4),
        sqnr=29.37,
        divergence=0.0023,
        latency=bound,
        energy=replace(bound, unit="mJ", value=6.55, low=2.63, high=6.55),
        memory=replace(bound, unit="MB", value=8.83, low=None, high=None),
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
            Step("export", "done", 18.2, "FP32 ONNX"),
            Step("calibrate", "unchanged", 100.0, "256 images"),
            Step("build", "left out", 0.0, "no TensorRT here"),
        ),
        gates=(Gate("agreement", "at least 98 %", "98.4 %", True),),
        checks=(Check("ONNX equals PyTorch", True, "largest difference 2e-05"),),
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
            )
            for index in range(1, 30)
        ),
        histograms=tuple(
            TensorHistogram(
                f"tensor {index}", 0.5, (100, 20, 3, 0, 1), 2.4, {"max": 2.4, "mse": 2.0}, 2.0, "mse", 1e-4, 25.0
            )
            for index in range(3)
        ),
        sensitivity=tuple(Sensitivity(f"layer {index}", 30.0 + index, 99.0, 10**6, index == 0) for index in range(5)),
        memory=tuple(MemoryStep(f"inception{index}/conv", 10**6 - 1000 * index) for index in range(10)),
        latencies=(
            Latency("fp32", "run", "this machine", 1, 400, 21.0, 41.0, {"p50": 22.0, "p95": 27.0, "p99": 33.0}),
            Latency("int8", "end_to_end", "this machine", 1, 400, 2.0, 41.0, {"p50": 3.0}),
        ),
        bounds=(
            ModeBound("int8", "15W", 15.0, 0.15, 0.4, 5.9),
            ModeBound("int8", "MAXN", None, 0.09, 0.25, None),
        ),
        disagreements=(
            Disagreement("a.jpg", picture(), "cat", (Answer("fp32", "cat", 0.6), Answer("int8", "dog", 0.5))),
        ),
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
