"""The search for the fewest multiply-adds in float, against trying every set of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import UsageError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.statistics import PairedDifference
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation, Measure
from googlenet_deploy.quantization.mixed_precision.choose import choose_precision
from googlenet_deploy.quantization.mixed_precision.search import Budget, BudgetSearch, Trial
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity, measure_sensitivity
from googlenet_deploy.quantization.quantized_model import QuantizedModel, keep_in_float, round_to_nearest


def agreement(decibels: float, equal: int = 98) -> Agreement:
    return Agreement(100, equal, 0.1, 100.0, 100.0 * 10 ** (-decibels / 10), np.ones(4))


class TestBudget:
    """What a budget means."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [("speed", 1), ("top1", -0.1), ("top1", 101), ("agreement", 100.5), ("sqnr", -1), ("sqnr", float("nan"))],
    )
    def test_nonsense_is_refused(self, name: str, value: float) -> None:
        with pytest.raises(UsageError):
            Budget(name, value)

    def test_margins(self) -> None:
        measure = Measure(agreement(30.0), PairedDifference(1, 3, 100))
        assert Budget("top1", 2.5).margin(measure) == pytest.approx(0.5)
        assert Budget("top1", 1.0).margin(measure) == pytest.approx(-1.0)
        assert Budget("agreement", 97).margin(measure) == pytest.approx(1.0)
        assert Budget("sqnr", 31).margin(measure) == pytest.approx(-1.0)

    def test_the_interval_is_said(self) -> None:
        measure = Measure(agreement(30.0), PairedDifference(1, 3, 100))
        assert "-2.00 points (95 % interval" in Budget("top1", 1).reached(measure)
        assert "agreement 98.0 % (95 % interval" in Budget("agreement", 1).reached(measure)
        assert "30.00 dB (95 % interval" in Budget("sqnr", 1).reached(measure)


class MadeUp:
    """An evaluation by formula: errors of quantised layers add up, and some pairs disturb each other."""

    def __init__(self, errors: Mapping[str, float], extra: Mapping[frozenset[str], float] | None = None) -> None:
        self.errors, self.extra, self.runs = errors, extra or {}, 0

    def measure(self, model: onnx.ModelProto) -> Measure:
        self.runs += 1
        graph = GraphView(model)
        quantised = {
            graph.name_of(node)
            for node in graph.nodes
            if node.op_type in ("Conv", "Gemm") and node.input[1] in graph.producers
        }
        return self.of(quantised)

    def of(self, quantised: set[str]) -> Measure:
        noise = sum(self.errors[name] for name in quantised)
        noise += sum(value for pair, value in self.extra.items() if pair <= quantised)
        return Measure(agreement(-10 * np.log10(noise + 1e-12)), None)


@pytest.fixture(scope="module")
def quantized(mini: Callable, mini_table: CalibrationTable) -> QuantizedModel:
    """The small GoogLeNet, quantised."""
    return round_to_nearest(mini(), mini_table)


def made_up_layers(quantized: QuantizedModel, seed: int) -> list[LayerSensitivity]:
    random = np.random.default_rng(seed)
    made = []
    for node in quantized.plan.nodes:
        noise, cost = float(10 ** random.uniform(-5, -3)), int(10 ** random.uniform(3, 6))
        made.append(LayerSensitivity(node.name, node.operator, cost, cost, 100.0, 40.0, noise / 2, noise))
    return made


def fewest(layers: list[LayerSensitivity], hold_out: MadeUp, budget: Budget) -> int:
    """The smallest cost of any set that holds the budget."""
    costs = {layer.name: layer.multiply_adds for layer in layers}
    best = sum(costs.values())
    for size in range(len(costs)):
        for kept in combinations(costs, size):
            cost = sum(costs[name] for name in kept)
            if cost < best and budget.margin(hold_out.of(set(costs) - set(kept))) >= 0:
                best = cost
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.8, 0.4, 0.1])
def test_nearly_the_fewest_multiply_adds_of_all_sets(quantized: QuantizedModel, seed: int, share: float) -> None:
    some = frozenset(node.name for node in quantized.plan.nodes[:5])
    quantized = keep_in_float(quantized, dict.fromkeys(some, ""))
    layers = made_up_layers(quantized, seed)
    hold_out: Any = MadeUp({layer.name: layer.noise for layer in layers})
    budget = Budget("sqnr", -10 * np.log10(share * sum(layer.noise for layer in layers)))
    trial = BudgetSearch(quantized, hold_out, layers, [budget]).run()
    assert trial.holds
    costs = {layer.name: layer.multiply_adds for layer in layers}
    total = sum(costs.values())
    assert sum(costs[name] for name in trial.kept) <= fewest(layers, hold_out, budget) + 0.012 * total
    assert hold_out.runs <= 16, "far fewer runs than there are sets"


def test_errors_that_do_not_add_up_are_found_by_running_and_layers_given_back(quantized: QuantizedModel) -> None:
    layers = made_up_layers(quantized, 9)
    names = [layer.name for layer in layers]
    errors = {layer.name: layer.noise for layer in layers}
    extra = {frozenset(names[:2]): -0.9 * (errors[names[0]] + errors[names[1]])}
    hold_out: Any = MadeUp(errors, extra)
    budget = Budget("sqnr", -10 * np.log10(0.3 * sum(errors.values())))
    search = BudgetSearch(quantized, hold_out, layers, [budget])
    trial = search.run()
    assert trial.holds
    for name in trial.kept:  # none of them is kept without need, as far as that is worth a run
        if search.costs[name] >= search.smallest and search._error(trial.kept - {name}) < 1.0 * search._error(
            trial.kept
        ):
            assert not search._try(trial.kept - {name}).holds


def test_nothing_stays_in_float_where_the_budget_holds_anyway(quantized: QuantizedModel) -> None:
    layers = made_up_layers(quantized, 1)
    hold_out: Any = MadeUp({layer.name: layer.noise for layer in layers})
    trial = BudgetSearch(quantized, hold_out, layers, [Budget("sqnr", 1.0)]).run()
    assert trial.kept == frozenset()
    assert hold_out.runs == 1


def test_a_budget_that_cannot_be_kept_gives_the_nearest(quantized: QuantizedModel) -> None:
    layers = made_up_layers(quantized, 1)
    hold_out: Any = MadeUp({layer.name: layer.noise for layer in layers})
    trial = BudgetSearch(quantized, hold_out, layers, [Budget("sqnr", 90.0)]).run()
    assert not trial.holds
    assert len(trial.kept) == len(layers) - 1, "one layer at least is in INT8"


def test_all_budgets_hold(quantized: QuantizedModel) -> None:
    layers = made_up_layers(quantized, 2)
    hold_out: Any = MadeUp({layer.name: layer.noise for layer in layers})
    loose, tight = (Budget("sqnr", -10 * np.log10(s * sum(each.noise for each in layers))) for s in (0.5, 0.2))
    both = BudgetSearch(quantized, hold_out, layers, [loose, Budget("agreement", 90)]).run()
    alone = BudgetSearch(quantized, hold_out, layers, [tight, loose]).run()
    assert both.holds
    assert alone.holds
    assert len(alone.kept) > len(both.kept)
    assert isinstance(alone, Trial)


@pytest.fixture(scope="module")
def hold_out(mini: Callable, specification: Preprocessing, picture_folder: Path) -> HoldOutEvaluation:
    """Sixteen pictures."""
    return HoldOutEvaluation(mini(), specification, find_images([picture_folder]).images[:16])


class TestChoosePrecision:
    """The whole, on pictures."""

    def test_without_budgets_layers_are_ranked_and_nothing_changes(
        self, quantized: QuantizedModel, hold_out: HoldOutEvaluation
    ) -> None:
        found = choose_precision(quantized, hold_out, (), quiet=True)
        assert found.quantized is quantized
        assert found.trial is None
        assert (found.kept, found.float_share) == ((), 0.0)
        values = found.to_dict()
        assert len(values["layers"]) == len(quantized.plan.nodes)
        assert values["budget"] is None

    def test_a_budget_is_kept_and_the_reasons_are_told(
        self, quantized: QuantizedModel, hold_out: HoldOutEvaluation
    ) -> None:
        plain = hold_out.measure(quantized.build()).agreement.sqnr
        budget = Budget("sqnr", plain + 3)
        found = choose_precision(quantized, hold_out, [budget], quiet=True)
        assert found.trial is not None
        assert found.trial.holds
        assert hold_out.measure(found.quantized.build()).agreement.sqnr >= plain + 3
        assert 0 < found.float_share < 0.7
        assert set(found.quantized.plan.skipped) == set(found.kept)
        assert all("kept in float by the budget: " in reason for reason in found.quantized.plan.skipped.values())
        assert found.runs >= 3
        summary = found.summary()
        assert summary["holds"] is True
        assert summary["wanted"] == {"sqnr": budget.value}
        assert "95 % interval" in summary["reached"][0]
        assert {layer["name"] for layer in found.to_dict()["layers"] if layer["float"]} == set(found.kept)

    def test_a_budget_finer_than_the_images_is_said_to_be_so(
        self, quantized: QuantizedModel, hold_out: HoldOutEvaluation
    ) -> None:
        found = choose_precision(quantized, hold_out, [Budget("agreement", 99)], quiet=True)
        assert "finer than 16 images can resolve: one image is 6.2 points" in found.warnings[0]
        assert choose_precision(quantized, hold_out, [Budget("agreement", 50)], quiet=True).warnings == []

    def test_infinities_are_null_in_json(self, quantized: QuantizedModel, hold_out: HoldOutEvaluation) -> None:
        found = choose_precision(quantized, hold_out, (), quiet=True)
        exact = replace(found.layers[0], sqnr=float("inf"))
        values = replace(found, layers=[exact, *found.layers[1:]]).to_dict()
        assert values["layers"][0]["sqnr"] is None

    def test_the_ranking_is_that_of_the_sensitivity(
        self, quantized: QuantizedModel, hold_out: HoldOutEvaluation
    ) -> None:
        assert choose_precision(quantized, hold_out, (), quiet=True).layers == measure_sensitivity(
            quantized, hold_out, quiet=True
        )
