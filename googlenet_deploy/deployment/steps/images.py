"""Divides the images into calibration and evaluation images, which do not overlap."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from googlenet_deploy.deployment.job import Job, Outcome, Step
from googlenet_deploy.device.files import sha256_file, write_json
from googlenet_deploy.device.images.folders import class_folders
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.dataset import ClassIndex, LabelledImages, read_labelled_images

FILE = "images.json"


class DivideImages(Step):
    """Draws the calibration images with the configuration's seed; copies of an image are always in the same part."""

    name = "images"

    def inputs(self, job: Job) -> dict[str, Any]:
        """Names and contents of all images, the labels, the weights (for their classes), and the draw's options."""
        config, root = job.config, Path(job.config.images)
        names = [Path(image.name).relative_to(root).as_posix() for image in job.images]
        return {
            "images": dict(zip(names, job.image_hashes, strict=True)),
            "labels": sha256_file(config.labels) if config.labels else "",
            "weights": job.weights_hash,
            "counts": [config.calibration_images, config.evaluation_images, config.seed, config.precision],
            "choosing": bool(config.budget),
        }

    def run(self, job: Job) -> Outcome:
        """Writes ``images.json``."""
        config, root = job.config, Path(job.config.images)
        labels, notes = read_labels(job)
        distinct = {digest: image for image, digest in zip(job.images, job.image_hashes, strict=True)}
        names = sorted(Path(image.name).relative_to(root).as_posix() for image in distinct.values())
        copies = len(job.images) - len(names)
        if copies:
            notes.append(f"left out: {counted(copies, 'image')} that only repeat others")
        calibration, choosing, evaluation = divide(names, labels, job)
        if not evaluation:
            raise InputError(
                config.images, "contains too few images to evaluate on", "pass at least two different ones"
            )
        notes += _shortage(job, calibration)
        data = {
            "calibration": calibration,
            "choosing": choosing,
            "evaluation": evaluation,
            "labels": {name: labels[name] for name in (*choosing, *evaluation) if name in labels},
            "classes": list(job.checkpoint.class_names),
            "skipped_copies": copies,
        }
        write_json(job.path(FILE), data)
        labelled = "" if labels else ", without labels: agreement instead of accuracy"
        chosen = f", {len(choosing)} choose the layers in floating point" if choosing else ""
        text = f"{len(evaluation)} evaluate{labelled}"
        if calibration:
            text = f"{len(calibration)} calibrate{chosen}, {len(evaluation)} others evaluate{labelled}"
        return Outcome((FILE,), text, data, tuple(notes))


def divide(names: list[str], labels: dict[str, int], job: Job) -> tuple[list[str], list[str], list[str]]:
    """Calibration images in the order of the draw; images for choosing layers for a budget; evaluation images, sorted.

    If only some images have labels, unlabelled ones are used for calibration first, so that labelled ones are left for
    evaluation. At least a third of the images are left for the other parts. With a budget every second of those is used
    for choosing, so that the choice is evaluated on images that did not influence it.
    """
    config = job.config
    if config.precision != "int8":
        calibration: list[str] = []
    else:
        count = min(config.calibration_images, max(1, len(names) * 2 // 3))
        drawn = random.Random(config.seed).sample(names, len(names))  # noqa: S311 - a reproducible draw, no secret
        drawn.sort(key=lambda name: bool(labels) and name in labels)
        calibration = drawn[:count]
    used = set(calibration)
    evaluation = [name for name in names if name not in used and (not labels or name in labels)]
    choosing = evaluation[1::2] if config.budget and calibration else []
    evaluation = evaluation[::2] if choosing else evaluation
    limit = config.evaluation_images
    if limit and len(evaluation) > limit:
        evaluation = [evaluation[index * len(evaluation) // limit] for index in range(limit)]
    return calibration, choosing, evaluation


def read_labels(job: Job) -> tuple[dict[str, int], list[str]]:
    """The class of each labelled image by its name; empty without labels, with a note.

    Raises:
        InputError: The CSV lists files or classes that do not exist.
    """
    config, checkpoint = job.config, job.checkpoint
    classes = ClassIndex(checkpoint.class_names, checkpoint.class_ids)
    root = Path(config.images)
    if config.labels:
        found = read_labelled_images(root, config.labels, classes)
        return _by_name(found, root), list(found.remarks)
    folders = [path.name for path in class_folders(root)[0]]
    if folders and all(classes.find(name) is not None for name in folders):
        found = read_labelled_images(root, None, classes)
        return _by_name(found, root), list(found.remarks)
    return {}, ["the images have no labels (pass --labels, or a folder per class), so accuracy is not measured"]


def _by_name(found: LabelledImages, root: Path) -> dict[str, int]:
    pairs = zip(found.sources, found.labels, strict=True)
    return {Path(source.name).relative_to(root).as_posix(): label for source, label in pairs}


def _shortage(job: Job, calibration: list[str]) -> list[str]:
    wanted = job.config.calibration_images
    if job.config.precision != "int8" or len(calibration) == wanted:
        return []
    return [f"{wanted} images should calibrate, but a third are left to evaluate on: {len(calibration)} do"]
