from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from googlenet_deploy.errors import UsageError, VerificationError
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import shape_of


def test_softmax(export_small: Any, samples_of: Any, architecture: str) -> None:
    outputs = run(export_small(architecture, softmax=True).model, samples_of(architecture))
    assert list(outputs) == ["probabilities"]
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_top_k(export_small: Any, samples_of: Any, architecture: str, softmax: bool) -> None:
    samples = samples_of(architecture)
    scores = run(export_small(architecture, softmax=softmax).model, samples)
    scores = scores["probabilities" if softmax else "logits"]
    result = export_small(architecture, softmax=softmax, top_k=3)
    outputs = run(result.model, samples)
    assert list(outputs) == ["top_k_values", "top_k_indices"]
    assert outputs["top_k_indices"].dtype == np.int64
    best = -np.sort(-scores, axis=1)[:, :3]
    np.testing.assert_allclose(outputs["top_k_values"], best, atol=1e-6)
    named = np.take_along_axis(scores, outputs["top_k_indices"], axis=1)
    np.testing.assert_allclose(named, best, atol=1e-6)
    assert shape_of(result.model.graph.output[1]) == ["batch", 3]


def test_more_classes_than_there_are(tiny_classifier: Any) -> None:
    with pytest.raises(UsageError, match="--top-k 6: the model has 5 classes"):
        AppendTopK(6).run(tiny_classifier())


def test_old_opsets_and_several_outputs_are_refused(tiny_classifier: Any) -> None:
    with pytest.raises(VerificationError, match="opset 11"):
        AppendTopK(2).run(tiny_classifier(opset=9))
    model = tiny_classifier()
    model.graph.output.add().CopyFrom(model.graph.output[0])
    with pytest.raises(VerificationError, match="one output"):
        AppendSoftmax().run(model)
