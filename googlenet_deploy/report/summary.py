"""The summary at the top: can it be shipped, is it right, how fast, how much energy and memory, what was checked."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.report.figures import MEASURED, Quantity, Variant
from googlenet_deploy.report.results import Doubt, Results
from googlenet_deploy.report.text import THIN, fixed, number, plural, precision, signed, size

GOOD, CARE, BAD, OPEN = "good", "care", "bad", "open"
SHIP, WITH_CARE, DO_NOT_SHIP = "Ship", "Ship with care", "Do not ship"
_ACCURACY_GATES = ("top-1", "top-5", "agreement", "loss of top-1", "SQNR")


@dataclass(frozen=True)
class Tile:
    """One answer.

    Attributes:
        question: "Is it right?"
        answer: The number that matters.
        detail: What it means.
        state: `GOOD`, `CARE`, `BAD`, or `OPEN` if undecided.
    """

    question: str
    answer: str
    detail: str
    state: str


@dataclass(frozen=True)
class ReportSummary:
    """The top of the report.

    Attributes:
        state: `GOOD`, `CARE`, `BAD` or `OPEN`.
        verdict: One sentence: ship, ship with care or do not ship, and why.
        doubts: Reasons for doubting the result.
        next: What to do next; empty if the doubts have remedies.
        tiles: The answers.
        checked: What was verified, and whether it passed.
        unchecked: What was not, and why.
    """

    state: str
    verdict: str
    doubts: tuple[Doubt, ...]
    next: str
    tiles: tuple[Tile, ...]
    checked: tuple[tuple[bool, str, str], ...]
    unchecked: tuple[tuple[str, str], ...]


def summarise(results: Results) -> ReportSummary:
    """Derives the summary from the results.

    A gate or check that could not have failed with this number of images is listed as unchecked.
    """
    state, verdict = _verdict(results)
    tiles = (_right(results), _fast(results), _energy(results), _memory(results))
    checked = [(check.ok, check.name, check.text) for check in results.checks if not check.inconclusive]
    checked += [
        (gate.holds, f"{gate.name} {gate.required}", f"found {gate.found}")
        for gate in results.gates
        if not gate.inconclusive
    ]
    unchecked = [
        (f"{gate.name} {gate.required}", f"found {gate.found}, but {gate.inconclusive}")
        for gate in results.gates
        if gate.inconclusive
    ]
    unchecked += [
        (check.name, f"{check.text}, but {check.inconclusive}") for check in results.checks if check.inconclusive
    ]
    unchecked += [(entry.part, entry.reason) for entry in results.missing]
    return ReportSummary(state, verdict, results.doubts, _next(results, state), tiles, tuple(checked), tuple(unchecked))


def _verdict(results: Results) -> tuple[str, str]:
    failed = [gate for gate in results.gates if not gate.holds]
    broken = [check for check in results.checks if not check.ok]
    stopped = [step for step in results.steps if step.outcome == "failed"]
    if stopped:
        return BAD, f"{DO_NOT_SHIP}: it stopped at {stopped[0].name}, {stopped[0].text.rstrip('.')}."
    if failed:
        return BAD, f"{DO_NOT_SHIP}: {failed[0].name} is {failed[0].found}, required is {failed[0].required}."
    if broken:
        return BAD, f"{DO_NOT_SHIP}: {broken[0].text.rstrip('.')}."
    if results.doubts:
        return CARE, f"{WITH_CARE}: {'; '.join(doubt.name for doubt in results.doubts)}."
    count = sum(not check.inconclusive for check in results.checks)
    held = sum(not gate.inconclusive for gate in results.gates)
    if not count and not held:
        return OPEN, "Nothing was checked."
    gates = f" and {plural(held, 'gate')}" if held else ""
    return GOOD, f"{SHIP}: {plural(count, 'check')}{gates} {'hold' if count + held > 1 else 'holds'}."


def _next(results: Results, state: str) -> str:
    """What to do next: fix what failed, otherwise measure on the device; each doubt has its own remedy."""
    if state == BAD:
        return "fix this and rerun the same command, which resumes there; the layers below show where accuracy is lost"
    if any(doubt.remedy for doubt in results.doubts):
        return ""
    if results.deployed is not None and not results.device:
        return "run the bundle's self-test and `benchmark --json` on the device, then `deploy --device-results`"
    return ""


def _right(results: Results) -> Tile:
    question, deployed = "Is it right?", results.deployed
    if deployed is None:
        return Tile(question, "not known", results.why_missing("accuracy"), OPEN)
    reference = results.variant("fp32")
    if deployed.top1 is not None:
        answer = f"{fixed(deployed.top1.percent)}{THIN}%"
        return Tile(question, answer, f"top-1{_compared(deployed, reference)}", _accuracy_state(results, deployed))
    if deployed.agreement is not None:
        answer = f"{fixed(deployed.agreement.percent)}{THIN}%"
        detail = f"same class as FP32 on {plural(deployed.agreement.total, 'image')}; {results.why_missing('accuracy')}"
        return Tile(question, answer, detail, _accuracy_state(results, deployed))
    return Tile(question, "not measured", results.why_missing("accuracy"), OPEN)


def _compared(deployed: Variant, reference: Variant | None) -> str:
    if deployed.difference is not None:
        change = deployed.difference
        interval = f"{signed(change.low)} to {signed(change.high)}"
        return f", {signed(change.points)} points against FP32 (95{THIN}%: {interval})"
    if reference is not None and reference is not deployed and reference.top1 is not None:
        return f"; FP32 has {fixed(reference.top1.percent)}{THIN}%"
    return f", 95{THIN}% interval {fixed(deployed.top1.low)} to {fixed(deployed.top1.high)}" if deployed.top1 else ""


def _accuracy_state(results: Results, deployed: Variant) -> str:
    """The state by the accuracy gates, if there are any; otherwise by whether the loss is significant."""
    named = [gate for gate in results.gates if gate.name in _ACCURACY_GATES]
    if any(not gate.holds for gate in named):
        return BAD
    if deployed.difference is not None and deployed.difference.high < 0 and not named:
        return BAD
    if results.doubts or any(gate.inconclusive for gate in named):
        return CARE
    return GOOD if named or deployed.difference is not None else OPEN


def _fast(results: Results) -> Tile:
    deployed = results.deployed
    return _quantity_tile("How fast?", results, deployed.latency if deployed else None, "latency")


def _energy(results: Results) -> Tile:
    deployed = results.deployed
    return _quantity_tile("How much energy?", results, deployed.energy if deployed else None, "energy")


def _memory(results: Results) -> Tile:
    deployed = results.deployed
    question = "How much memory?"
    if deployed is None:
        return Tile(question, "not measured", results.why_missing("memory"), OPEN)
    if deployed.memory is None:
        return Tile(question, size(deployed.bytes), f"on disk; {results.why_missing('memory')}", OPEN)
    file = f"the {precision(deployed.name)} file has {size(deployed.bytes)}"
    return Tile(question, amount(deployed.memory), f"{origin(deployed.memory)}; {file}", OPEN)


def _quantity_tile(question: str, results: Results, quantity: Quantity | None, part: str) -> Tile:
    if quantity is None:
        return Tile(question, "not measured", results.why_missing(part), OPEN)
    return Tile(question, amount(quantity), f"per image, {origin(quantity)}", OPEN)


def amount(quantity: Quantity) -> str:
    """A quantity as text; a prediction is marked as such."""
    sign = "" if quantity.kind == MEASURED else f"\N{ALMOST EQUAL TO}{THIN}"
    return f"{sign}{number(quantity.value)}{THIN}{quantity.unit}"


def origin(quantity: Quantity) -> str:
    """The origin of a quantity, so that a prediction is not mistaken for a measurement."""
    if quantity.kind == MEASURED:
        return f"measured on {quantity.where}"
    text = f"predicted, not measured, for {quantity.where}"
    if quantity.low is None or quantity.high is None:
        return text
    return f"{text}: {number(quantity.low)} to {number(quantity.high)}{THIN}{quantity.unit} in nine of ten cases"
