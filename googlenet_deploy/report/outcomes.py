"""What a deployment was asked for, did, checked, and left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that was held against something else: `name`, whether it holds, and what was found."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Gate:
    """A limit that was set.

    Attributes:
        name: Of what.
        required: The limit, with unit.
        found: What was found, with unit.
        holds: Whether it holds.
    """

    name: str
    required: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    Attributes:
        name: Such as "export".
        outcome: "done", "unchanged" (its inputs are those of an earlier run), "left out", "failed".
        seconds: How long it took, in the run that did it.
        text: What it did, in a line.
    """

    name: str
    outcome: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Subject:
    """What was deployed, and from what.

    Attributes:
        title: For people: "GoogLeNet (bvlc)".
        target: The target's name.
        target_title: For people: "Jetson Orin Nano 8 GB".
        precision: What is deployed.
        classes: Number of classes.
        input: Size of an image, "224 x 224".
        weights: Where the weights came from.
        weights_sha256: Their hash.
        calibration_images: Number of images that calibrated.
        evaluation_images: Number of other images that were evaluated.
        evaluation_set: Where they came from.
    """

    title: str
    target: str
    target_title: str
    precision: str
    classes: int
    input: str
    weights: str
    weights_sha256: str
    calibration_images: int = 0
    evaluation_images: int = 0
    evaluation_set: str = ""


@dataclass(frozen=True)
class Missing:
    """A part that the results do not have, and why."""

    part: str
    reason: str
