"""An example result of `tune`: INT8 chosen, a tie, FP16 eliminated in stage 1."""

from __future__ import annotations

from dataclasses import replace

from googlenet_deploy.device.tune.options import TuneBudget
from googlenet_deploy.device.tune.tuned_file import (
    LeftOut,
    TunableModel,
    Tuned,
    TunedFigure,
    TunedResult,
    TuneSetting,
)

SETTING = TuneSetting("model.int8.onnx", "openvino", "CPU", 2, 1, 4)
RESULT = TunedResult(
    SETTING, 3, 5, TunedFigure(2.0, 1.9, 2.1), TunedFigure(2.5), TunedFigure(500.0), TunedFigure(14.0), 98.5, "chosen"
)
TUNED = Tuned(
    tool="googlenet-deploy 0.1.0",
    created="2026-01-02T03:04:05+00:00",
    machine={"processor": "some CPU"},
    objective="energy",
    budget=TuneBudget(max_latency=5.0),
    models=(
        TunableModel("model.int8.onnx", "a" * 64, 7_000_000, "int8", 0.98, "b" * 64, None),
        TunableModel("model.fp16.onnx", "c" * 64, 14_000_000, "fp16", None, "b" * 64, None),
    ),
    results=(
        RESULT,
        replace(RESULT, setting=replace(SETTING, batch=4), millijoules_per_image=None, agreement=None, verdict="ties"),
        replace(
            RESULT,
            setting=replace(SETTING, model="model.fp16.onnx"),
            latency_ms=TunedFigure(6.0, 5.0, 7.0),
            latency_p95_ms=TunedFigure(7.0),
            images_per_second=TunedFigure(300.0),
            stage=1,
            verdict="behind in stage 1",
        ),
    ),
    chosen=0,
    ties=(1,),
    left_out=(LeftOut("power mode MAXN", "needs a reboot"),),
    notes=("a note",),
)
