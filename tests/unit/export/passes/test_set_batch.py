from __future__ import annotations

from typing import Any

import pytest

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.passes.outputs import SetBatch
from googlenet_deploy.graph.graph import shape_of
from googlenet_deploy.graph.pass_manager import PassManager


def test_all_shapes_get_the_batch(export_small: Any, architecture: str) -> None:
    graph = export_small(architecture, batch=3).model.graph
    shapes = [shape_of(value) for value in [*graph.input, *graph.value_info, *graph.output]]
    assert {shape[0] for shape in shapes} == {3}


def test_a_fixed_batch_is_not_changed(tiny_classifier: Any) -> None:
    assert not SetBatch(2).run(tiny_classifier(batch=2))
    with pytest.raises(VerificationError, match="fixed to 2"):
        PassManager().run(tiny_classifier(batch=2), [SetBatch(4)])
