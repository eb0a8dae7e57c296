"""The training record: what a checkpoint says about how it came about."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from googlenet_deploy import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from googlenet_deploy.training.loop import EpochResult
    from googlenet_deploy.training.network import Network

PACKAGES = ("torch", "kornia", "numpy", "pillow")


def training_record(network: Network, data: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What does not change during the run: options, data, versions. No times, so that equal runs give equal files.

    Args:
        network: What is trained.
        data: What is known of the images.
        device: Where it runs.
    """
    return {
        "options": network.options.to_record(),
        "weights_sha256": network.weights_sha256,
        **({"table_sha256": network.table_sha256} if network.table_sha256 else {}),
        "data": dict(data),
        "device": device,
        "versions": {
            "googlenet_deploy": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def epoch_record(result: EpochResult) -> dict[str, Any]:
    """What the checkpoint says about the epoch whose weights it holds."""
    accuracy, agreement = result.validation.accuracy, result.validation.agreement
    values = {
        "top1_percent": accuracy.percent,
        "correct": accuracy.successes,
        "images": accuracy.total,
        "loss": result.validation.loss,
    }
    if agreement is not None:
        values |= {"agreement_percent": 100.0 * agreement.equal / agreement.images, "logit_sqnr_db": agreement.sqnr}
    return {"epoch": result.epoch, "validation": values}
