"""Which images refinements learn from, and which are held out."""

from __future__ import annotations

import pytest

from googlenet_deploy.deployment.steps.calibrate import divide


@pytest.mark.parametrize(("count", "held"), [(4, 1), (8, 2), (24, 6), (128, 32), (256, 32)])
def test_a_quarter_and_at_most_32_of_the_calibration_images_are_held_out(count: int, held: int) -> None:
    names = [f"{number}.png" for number in range(count)]
    refining, hold_out = divide(names, [])
    assert len(hold_out) == held
    assert refining + hold_out == names


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_images_serves_as_both(count: int) -> None:
    names = [f"{number}.png" for number in range(count)]
    assert divide(names, []) == (names, names)


def test_images_set_apart_for_a_budget_leave_all_others_to_the_refinements() -> None:
    assert divide(["a", "b", "c", "d"], ["x"]) == (["a", "b", "c", "d"], ["x"])
