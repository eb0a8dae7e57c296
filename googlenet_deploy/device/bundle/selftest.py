"""The self-test of an unpacked bundle: checks that this device gives the same answers as the workstation.

There are four kinds of checks, in this order: every file is unchanged; images are preprocessed here as on the
workstation; each model, and the engine that was built here, reproduces the recorded scores on the recorded pixels
within the tolerance; and each image file gets the same class end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np

from googlenet_deploy.device.bundle.golden import (
    Golden,
    GoldenModel,
    read_golden,
    read_pixels,
    read_scores,
    sqnr,
)
from googlenet_deploy.device.bundle.manifest import DEVICE_FOLDER, verify_folder
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.predictions import class_scores
from googlenet_deploy.device.preprocess import crop_pixels, normalize
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadBundleError, DeviceError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.protocol import Runner

ENGINE = f"{DEVICE_FOLDER}/model.engine"
PREPROCESSING = "preprocessing.json"
NOTHING_RUNS = "build the engine with ./build.sh, or install ONNX Runtime: pip3 install onnxruntime"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        ok: Whether it passed; None if it could not be checked, as `text` explains.
        text: The finding.
    """

    name: str
    ok: Optional[bool]
    text: str


def self_test(folder: PathLike, *, files_only: bool = False, engine: Optional[str] = None) -> List[Check]:
    """Runs the self-test.

    Args:
        folder: The unpacked bundle.
        files_only: Check the files and the preprocessing only, without running a model.
        engine: The engine that was built here; None uses ``on-device/model.engine`` if that exists.

    Returns:
        The checks in order; the test has failed if `ok` is False for one of them.

    Raises:
        BadBundleError: A file is missing or altered, or the bundle has no self-test.
        GoogLeNetDeployError: A model cannot be run.
    """
    root = Path(folder)
    manifest = verify_folder(root)
    checks = [Check("files", True, f"all {len(manifest.files)} are as they were packed")]
    if manifest.kind != "jetson":
        raise BadBundleError(root, f"is a {manifest.kind} bundle, which has no self-test on the device")
    golden, spec = read_golden(root, manifest), _preprocessing(root)
    pixels = read_pixels(root, golden, spec)
    checks.append(_check_preparation(root, golden, pixels, spec))
    if files_only:
        return checks
    found = [_check_model(root, model, model.model, golden, pixels) for model in golden.models]
    built = Path(engine) if engine is not None else root / ENGINE
    if engine is not None or built.exists():
        found.append(_check_model(root, golden.models[0], str(built), golden, pixels))
    else:
        found.append(Check("engine", None, "not built yet: ./build.sh"))
    if all(check.ok is None for check in found):
        found.append(Check("answers", False, f"nothing here can run the models: {NOTHING_RUNS}"))
    return checks + found


def failed(checks: List[Check]) -> List[Check]:
    """The checks that failed."""
    return [check for check in checks if check.ok is False]


def check_lines(checks: List[Check]) -> List[str]:
    """The checks as text for a terminal."""
    width = max(len(check.name) for check in checks)
    words = {True: "ok     ", False: "FAILED ", None: "not run"}
    return [f"{words[check.ok]}  {check.name.ljust(width)}  {check.text}" for check in checks]


def _preprocessing(root: Path) -> Preprocessing:
    path = root / PREPROCESSING
    try:
        return Preprocessing.from_json(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise BadBundleError(path, "is damaged: it is not UTF-8 text") from error
    except UsageError as error:
        raise BadBundleError(path, f"is damaged: {error.message}") from error


def _prepared_pixels(root: Path, golden: Golden, spec: Preprocessing) -> NDArray[np.uint8]:
    mode = "L" if spec.channels == "L" else "RGB"
    return np.stack([_cropped(root / image.file, mode, spec) for image in golden.images])


def _cropped(path: Path, mode: str, spec: Preprocessing) -> NDArray[np.uint8]:
    try:
        return crop_pixels(load_image(path, mode=mode), spec)
    except UsageError as error:
        raise BadBundleError(path, error.message) from error


def _check_preparation(root: Path, golden: Golden, pixels: NDArray[np.uint8], spec: Preprocessing) -> Check:
    here = _prepared_pixels(root, golden, spec)
    if here.shape != pixels.shape:
        return Check("preparing images", False, f"gives {here.shape}, on the workstation {pixels.shape}")
    difference = np.abs(here.astype(np.int16) - pixels.astype(np.int16))
    mean, largest = float(difference.mean()), int(difference.max())
    text = f"pixels differ by {mean:.3f} of 255 on average ({golden.pixel_tolerance:g} allowed), {largest} at most"
    return Check("preparing images", mean <= golden.pixel_tolerance, text)


def _check_model(root: Path, model: GoldenModel, file: str, golden: Golden, pixels: NDArray[np.uint8]) -> Check:
    is_engine = file != model.model
    name = "engine" if is_engine else Path(file).name
    try:
        runner = open_runner(file if is_engine else root / file)
    except (MissingExtraError, DeviceError) as error:
        if is_engine:
            raise
        return Check(name, None, error.message)
    with runner:
        scores, from_files = _scores(runner, root, golden, pixels)
        backend = runner.backend
    needed = golden.engine_min_sqnr if is_engine else model.min_sqnr
    return _compare(name, backend, needed, golden, read_scores(root, golden, model), scores, from_files)


def _scores(
    runner: Runner, root: Path, golden: Golden, pixels: NDArray[np.uint8]
) -> Tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores on the recorded pixels, and on pixels preprocessed here from the files."""
    spec = runner.metadata.preprocessing
    if spec is None:
        raise BadBundleError(runner.path, "does not state how its images are prepared")
    results = []
    for images in (pixels, _prepared_pixels(root, golden, spec)):
        batch = np.stack([normalize(image, spec) for image in images])
        results.append(class_scores(run_any_batch(runner, batch), runner.path))
    return results[0], results[1]


def _compare(
    name: str,
    backend: str,
    needed: float,
    golden: Golden,
    expected: NDArray[np.float32],
    scores: NDArray[np.float32],
    from_files: NDArray[np.float32],
) -> Check:
    if scores.shape != expected.shape:
        return Check(name, False, f"{backend}: gives {scores.shape[1]} classes, on the workstation {expected.shape[1]}")
    wanted = np.array([image.index for image in golden.images])
    wrong = int((scores.argmax(axis=1) != wanted).sum())
    wrong_files = int((from_files.argmax(axis=1) != wanted).sum())
    decibels = sqnr(expected, scores)
    ok = wrong == 0 and wrong_files == 0 and decibels >= needed
    text = (
        f"{backend}: scores at {decibels:.1f} dB of the workstation's ({needed:g} needed), classes of "
        f"{len(wanted) - wrong} of {len(wanted)} images the same, {len(wanted) - wrong_files} from the files"
    )
    return Check(name, ok, text)
