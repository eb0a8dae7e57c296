"""The answers at the top: is it right, how fast, how much energy and memory, what was checked, and what was not."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.report.results import BOUND, Quantity, Results, Variant
from googlenet_deploy.report.text import THIN, fixed, number, plural, precision, signed, size

GOOD, BAD, OPEN = "good", "bad", "open"


@dataclass(frozen=True)
class Tile:
    """One answer.

    Attributes:
        question: "Is it right?"
        answer: The number that matters.
        detail: What it means.
        state: `GOOD`, `BAD`, or `OPEN` where nothing was judged.
    """

    question: str
    answer: str
    detail: str
    state: str


@dataclass(frozen=True)
class Summary:
    """The top of the report.

    Attributes:
        state: `GOOD`, `BAD` or `OPEN`.
        verdict: One sentence.
        tiles: The answers.
        checked: What was verified, and whether it holds.
        unchecked: What was not, and why.
    """

    state: str
    verdict: str
    tiles: tuple[Tile, ...]
    checked: tuple[tuple[bool, str, str], ...]
    unchecked: tuple[tuple[str, str], ...]


def summarise(results: Results) -> Summary:
    """Draws the answers from the results."""
    state, verdict = _verdict(results)
    tiles = (_right(results), _fast(results), _energy(results), _memory(results))
    checked = [(check.ok, check.name, check.text) for check in results.checks]
    checked += [(gate.holds, f"{gate.name} {gate.required}", f"found {gate.found}") for gate in results.gates]
    unchecked = tuple((entry.part, entry.reason) for entry in results.missing)
    return Summary(state, verdict, tiles, tuple(checked), unchecked)


def _verdict(results: Results) -> tuple[str, str]:
    failed = [gate for gate in results.gates if not gate.holds]
    broken = [check for check in results.checks if not check.ok]
    stopped = [step for step in results.steps if step.outcome == "failed"]
    if stopped:
        return BAD, f"It stopped at {stopped[0].name}: {stopped[0].text}"
    if failed or broken:
        first = f"{failed[0].name} is {failed[0].found}, required is {failed[0].required}" if failed else broken[0].text
        return BAD, f"Not ready: {first}."
    held = f" and {plural(len(results.gates), 'gate')}" if results.gates else ""
    if not results.checks and not results.gates:
        return OPEN, "Nothing was checked."
    return GOOD, f"Everything that was checked holds: {plural(len(results.checks), 'check')}{held}."


def _right(results: Results) -> Tile:
    question, deployed = "Is it right?", results.deployed
    if deployed is None:
        return Tile(question, "not known", results.why_missing("accuracy"), OPEN)
    reference = results.variant("fp32")
    if deployed.top1 is not None:
        answer = f"{fixed(deployed.top1.percent)}{THIN}%"
        return Tile(question, answer, f"top-1{_compared(deployed, reference)}", _judge(results, deployed))
    if deployed.agreement is not None:
        answer = f"{fixed(deployed.agreement.percent)}{THIN}%"
        detail = f"same class as FP32 on {plural(deployed.agreement.total, 'image')}; {results.why_missing('accuracy')}"
        return Tile(question, answer, detail, _judge(results, deployed))
    return Tile(question, "not measured", results.why_missing("accuracy"), OPEN)


def _compared(deployed: Variant, reference: Variant | None) -> str:
    if deployed.difference is not None:
        change = deployed.difference
        interval = f"{signed(change.low)} to {signed(change.high)}"
        return f", {signed(change.points)} points against FP32 (95{THIN}%: {interval})"
    if reference is not None and reference is not deployed and reference.top1 is not None:
        return f"; FP32 has {fixed(reference.top1.percent)}{THIN}%"
    return f", 95{THIN}% interval {fixed(deployed.top1.low)} to {fixed(deployed.top1.high)}" if deployed.top1 else ""


def _judge(results: Results, deployed: Variant) -> str:
    """By the gates on accuracy where there are some; else by whether the loss is beyond chance."""
    named = [gate for gate in results.gates if gate.name in ("top-1", "top-5", "agreement", "loss of top-1", "SQNR")]
    if named:
        return GOOD if all(gate.holds for gate in named) else BAD
    if deployed.difference is None:
        return OPEN
    return BAD if deployed.difference.high < 0 else GOOD


def _fast(results: Results) -> Tile:
    deployed = results.deployed
    question = "How fast?"
    if deployed is None or deployed.latency is None:
        return Tile(question, "not measured", results.why_missing("latency"), OPEN)
    return Tile(question, _quantity(deployed.latency), f"per image {_where(deployed.latency)}", OPEN)


def _energy(results: Results) -> Tile:
    deployed = results.deployed
    question = "How much energy?"
    if deployed is None or deployed.energy is None:
        return Tile(question, "not measured", results.why_missing("energy"), OPEN)
    return Tile(question, _quantity(deployed.energy), f"per image {_where(deployed.energy)}", OPEN)


def _memory(results: Results) -> Tile:
    deployed = results.deployed
    question = "How much memory?"
    if deployed is None:
        return Tile(question, "not measured", results.why_missing("memory"), OPEN)
    file = f"the {precision(deployed.name)} file has {size(deployed.bytes)}"
    if deployed.memory is None:
        return Tile(question, size(deployed.bytes), f"on disk; {results.why_missing('memory')}", OPEN)
    return Tile(question, _quantity(deployed.memory), f"{_where(deployed.memory)}; {file}", OPEN)


def _quantity(quantity: Quantity) -> str:
    if quantity.kind != BOUND:
        return f"{number(quantity.value)}{THIN}{quantity.unit}"
    return f"\N{GREATER-THAN OR EQUAL TO}{THIN}{number(quantity.least)}{THIN}{quantity.unit}"


def _where(quantity: Quantity) -> str:
    if quantity.kind == BOUND:
        return f"at best, on {quantity.where} (a bound from published rates, not measured)"
    return f"measured on {quantity.where}"
