"""The option --refine: names, sets, order, and what does not go together."""

from __future__ import annotations

import pytest

from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions
from googlenet_deploy.deployment.config import DeployConfig
from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.options import BudgetOptions, CheckOptions, QuantizeRequest
from googlenet_deploy.quantization.quantize_model import chosen_refinements
from googlenet_deploy.quantization.refine.activation_offset import offset_activations
from googlenet_deploy.quantization.refine.bias_correction import correct_biases
from googlenet_deploy.quantization.refine.cross_layer_equalization import equalize_channels
from googlenet_deploy.quantization.refine.registry import SETS, parse_refinements, refinement_steps


def chosen(
    text: str | None = None, images: str | None = "photos/", cache: str | None = None, **files: str
) -> list[str]:
    request = QuantizeRequest(
        ImageOptions(images),
        CalibrationOptions(),
        CacheOptions(cache, "8.5.2" if cache else None),
        BudgetOptions(),
        CheckOptions(),
    )
    return chosen_refinements(text, request, table=files.get("table"), save_table=files.get("save_table"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("none", []),
        ("fast", ["bias"]),
        ("best", ["weight-scales", "rounding"]),
        ("rounding, offset", ["offset", "rounding"]),
        ("best,offset,equalize", ["equalize", "weight-scales", "offset", "rounding"]),
        ("bias,bias", ["bias"]),
    ],
)
def test_names_and_sets_come_in_the_order_of_their_application(text: str, names: list[str]) -> None:
    assert parse_refinements(text) == names


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"unknown refinement 'adaround': choose of equalize, .*rounding, none"):
        parse_refinements("bias,adaround")


def test_default_is_fast_and_nothing_with_a_table() -> None:
    assert chosen() == list(SETS["fast"])
    assert chosen(table="t.json") == []
    assert chosen("bias", table="t.json") == ["bias"]


@pytest.mark.parametrize("option", ["table", "save_table", "cache"])
def test_equalisation_leaves_no_artefact_of_another_model(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} would belong to another model"):
        chosen("equalize", **{option: "file"})


def test_what_learns_from_images_needs_them() -> None:
    for name in ("bias", "rounding"):
        with pytest.raises(UsageError, match="need --images"):
            chosen(name, images=None, table="t.json")
    assert chosen("offset", images=None, table="t.json") == ["offset"]


def test_steps_are_changes_of_the_model_and_then_of_the_draft() -> None:
    before, after = refinement_steps(["equalize", "offset", "bias", "rounding"])
    assert before == [equalize_channels]
    assert after[0] is offset_activations
    assert len(after) == 2, "learned rounding brings its biases with it"
    _, (bias,) = refinement_steps(["bias"])
    assert bias.func is correct_biases  # type: ignore[attr-defined]


def test_deploy_takes_refinements_but_not_those_that_change_the_fp32_model() -> None:
    values = {"weights": "w", "images": "i", "target": "nano", "output": "o"}
    assert DeployConfig(**values, refine="best,offset").refine == "best,offset"
    with pytest.raises(UsageError, match="cannot equalize"):
        DeployConfig(**values, refine="equalize")
    with pytest.raises(UsageError, match="unknown refinement"):
        DeployConfig(**values, refine="better")
