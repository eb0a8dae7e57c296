"""A draft of which some layers stay in float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.placement import place
from googlenet_deploy.graph.graph import GraphView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from googlenet_deploy.calibration.draft import Draft


def keep_in_float(draft: Draft, reasons: Mapping[str, str]) -> Draft:
    """The same draft with further layers in float; all others keep their scales, weights and biases.

    Args:
        draft: The draft.
        reasons: Why each layer stays in float, by the layer's name.

    Raises:
        BadModelError: Nothing would be quantised any more.
    """
    options = replace(draft.plan.options, excluded=draft.plan.options.excluded | frozenset(reasons))
    plan = place(GraphView(draft.model), options)
    skipped = {name: reasons.get(name, draft.plan.skipped.get(name, why)) for name, why in plan.skipped.items()}
    return replace(
        draft,
        plan=replace(plan, skipped=skipped),
        scales={name: draft.scales[name] for name in plan.tensors},
        weights={node.name: draft.weights[node.name] for node in plan.nodes},
        biases={name: bias for name, bias in draft.biases.items() if name not in reasons},
    )
