from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export import simplify_worker
from googlenet_deploy.export.passes import simplify
from googlenet_deploy.export.passes.simplify import Simplify
from googlenet_deploy.export.verify import reference_of, run
from googlenet_deploy.graph.graph import operator_counts, serialize
from googlenet_deploy.graph.pass_manager import PassManager

FLOAT = TensorProto.FLOAT


def foldable(tiny_classifier: Any) -> Any:
    """The tiny classifier behind an Identity and a multiplication by a constant sum."""
    model = tiny_classifier()
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Add", ["half", "half"], ["one"], "add"))
    model.graph.node.insert(1, helper.make_node("Identity", ["input"], ["same"], "id"))
    model.graph.node.insert(2, helper.make_node("Mul", ["same", "one"], ["scaled"], "mul"))
    model.graph.initializer.append(helper.make_tensor("half", FLOAT, [1], [0.25]))
    return model


def test_onnxsim_folds_and_the_result_is_the_same(tiny_classifier: Any) -> None:
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.samples import seeded_samples

    model = foldable(tiny_classifier)
    manager = PassManager()
    result = manager.run(model, [Simplify()])
    assert manager.records[0].changed
    counts = operator_counts(result.graph)
    assert "Identity" not in counts
    assert "Add" not in counts
    samples = seeded_samples(Preprocessing(resize=8, crop=(8, 8)), 3)
    np.testing.assert_allclose(run(result, samples)["logits"], run(model, samples)["logits"], atol=1e-5)
    assert not result.metadata_props, "onnxsim's own notes do not come along"


@pytest.mark.parametrize(
    ("status", "output", "reason"),
    [
        (simplify_worker.NOT_INSTALLED, "", "onnxsim is not installed"),
        (simplify_worker.CHECK_FAILED, "", "onnxsim's own check of its result failed"),
        (-11, "", r"onnxsim crashed \(signal 11\)"),
        (1, "Traceback ...\nRuntimeError: no such op\n", "onnxsim failed: RuntimeError: no such op"),
        (1, "", "onnxsim failed: exit status 1"),
        (0, "", "onnxsim failed: exit status 0"),  # it said so, but wrote nothing
    ],
)
def test_whatever_goes_wrong_the_graph_is_kept(
    tiny_classifier: Any, monkeypatch: pytest.MonkeyPatch, status: int, output: str, reason: str
) -> None:
    monkeypatch.setattr(simplify, "_run_worker", lambda source, target: (status, output))
    model = tiny_classifier()
    with pytest.raises(VerificationError, match=reason):
        Simplify().run(model)
    manager = PassManager()
    assert serialize(manager.run(model, [Simplify()])) == serialize(model)
    assert manager.records[0].rejected


def test_a_real_crash_takes_nothing_down(tiny_classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(VerificationError, match="exit status 1"):
        Simplify().run(tiny_classifier())


def test_a_file_that_is_not_onnx(tiny_classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def worker(source: Path, target: Path) -> tuple[int, str]:
        target.write_bytes(b"\xff\xff\xff")
        return 0, ""

    monkeypatch.setattr(simplify, "_run_worker", worker)
    with pytest.raises(VerificationError, match="not ONNX"):
        Simplify().run(tiny_classifier())


def test_it_does_not_wait_for_ever(tiny_classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def expire(*args: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("onnxsim", 1)

    monkeypatch.setattr(subprocess, "run", expire)
    with pytest.raises(VerificationError, match="took longer"):
        Simplify().run(tiny_classifier())


def test_a_wrong_result_is_thrown_away(tiny_classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.samples import seeded_samples

    wrong = tiny_classifier(seed=1)
    monkeypatch.setattr(simplify, "_simplify", lambda model: wrong)
    wrong.graph.node[1].name = "changed"
    model = tiny_classifier(seed=0)
    reference = reference_of(model, seeded_samples(Preprocessing(resize=8, crop=(8, 8)), 3))

    def verify(before: Any, after: Any) -> None:
        comparison = reference.compare(after, "the original")
        if not comparison.holds:
            raise VerificationError(comparison.sentence())

    manager = PassManager(verify)
    assert serialize(manager.run(model, [Simplify()])) == serialize(model)
    assert "largest difference" in manager.records[0].rejected
