"""The quantised model against the one that it was made from, on images that calibration did not see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.graph.session import TensorSession

if TYPE_CHECKING:
    import onnx

    from googlenet_deploy.calibration.batches import Batches


def compare(reference: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches) -> Agreement | None:
    """Runs both models and compares their first outputs, (N, ...) of float; None where there are no images.

    Raises:
        BadModelError: One of them cannot be run.
        VerificationError: The quantised model yields NaN or infinite values.
    """
    first, second = TensorSession(reference), TensorSession(quantised)
    agreement = Agreement()
    for batch in batches:
        wanted, got = (session.run(batch.array)[session.outputs[0]] for session in (first, second))
        if not np.isfinite(got).all():
            raise VerificationError("the quantised model yields NaN or infinite values")
        agreement.add(wanted.reshape(len(wanted), -1), got.reshape(len(got), -1))
    return agreement if agreement.images else None
