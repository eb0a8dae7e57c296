"""Dropout whose mask does not depend on how a step is divided."""

from __future__ import annotations

import pytest
import torch

from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.data.batches import Rows
from googlenet_deploy.training.dropout import StepDropout, step_dropouts, use_step_dropout


def dropped(module: StepDropout, x: torch.Tensor, rows: Rows | None) -> torch.Tensor:
    module.rows = rows
    torch.manual_seed(1)
    result: torch.Tensor = module(x)
    return result


def test_parts_are_dropped_as_the_whole_is() -> None:
    module, x = StepDropout(0.4), torch.ones(12, 50)
    whole = dropped(module, x, None)
    rows = Rows(0, 12, 12)
    parts = [dropped(module, x[k * 4 : k * 4 + 4], rows.part(k, 3)) for k in range(3)]
    assert torch.equal(whole, torch.cat(parts))
    assert sorted(set(whole.flatten().tolist())) == pytest.approx([0.0, 1 / 0.6])
    assert float((whole == 0).float().mean()) == pytest.approx(0.4, abs=0.06)


def test_nothing_is_dropped_while_measuring_or_at_zero() -> None:
    x = torch.rand(3, 4)
    assert torch.equal(StepDropout(0.4).eval()(x), x)
    assert torch.equal(StepDropout(0.0)(x), x)


def test_every_dropout_of_a_model_is_replaced_with_its_share() -> None:
    model = GoogLeNet(ARCHITECTURES["bvlc"], 2, width=0.125, auxiliary=True)
    names = set(model.state_dict())
    placed = use_step_dropout(model)
    assert sorted(module.p for module in placed) == [0.4, 0.7, 0.7]
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(model.state_dict()) == names
    assert {id(module) for module in step_dropouts(model)} == {id(module) for module in placed}
