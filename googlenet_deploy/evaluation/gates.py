"""The metrics of an evaluation that a gate can check; each must be at least its limit."""

from __future__ import annotations

# By name, with the unit.
FIGURES = {"top1": "%", "top5": "%", "agreement": "%", "sqnr": "dB"}
# The metrics that compare a model with a reference.
OF_A_REFERENCE = ("agreement", "sqnr")
