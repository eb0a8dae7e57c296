"""The share of images that get the same class as in FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Sequence

import numpy as np

from googlenet_deploy.device.images.pipeline import prepare
from googlenet_deploy.device.predictions import predict
from googlenet_deploy.device.runner.protocol import run_any_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

AT_ONCE = 8


def classes_of(
    runner: Runner,
    images: Sequence[ImageSource],
    spec: Preprocessing,
    image_backend: str,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """The best class of each image: int64 (images,).

    Args:
        runner: An open model.
        images: Images that can be used; see `benchmark.inputs.real_inputs`.
        spec: The preprocessing.
        image_backend: Library that resizes them.
        check: Called between batches; may raise.

    Raises:
        BadModelError: The outputs are not those of a classifier, or the model fails.
        DeviceError: The device fails.
    """
    found: List[NDArray[np.int64]] = []
    for start in range(0, len(images), AT_ONCE):
        check()
        batch = np.stack([prepare(image, spec, image_backend) for image in images[start : start + AT_ONCE]])
        found.append(predict(run_any_batch(runner, batch), 1, runner.path).indices[:, 0])
    return np.concatenate(found)


def agreement_percent(classes: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Percent of the images with the same class."""
    return 100 * float(np.mean(classes == reference))
