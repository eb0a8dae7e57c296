"""`quantize --lint` and `quantize --repair`: Q/DQ models of any tool by TensorRT's rules."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Sequence

from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import GateError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.quantization.findings import Finding

SHOWN = 20


def lint_or_repair(arguments: argparse.Namespace) -> int:
    """What --lint or --repair asks for; gives the exit status."""
    _check_alone(arguments)
    return _lint(arguments) if arguments.lint else _repair(arguments)


def _check_alone(arguments: argparse.Namespace) -> None:
    """--lint and --repair bring their model and take no options of quantisation, which would be ignored silently."""
    mode = "--lint" if arguments.lint else "--repair"
    others = {"a second model": arguments.model, "--table": arguments.table}
    others["--images"] = getattr(arguments, "images", None)
    others["--refine"] = arguments.refine
    others["--output, since it writes nothing"] = arguments.output if arguments.lint else None
    for name, value in others.items():
        if value:
            raise UsageError(f"{mode} accepts one quantised model, not {name}")


def _lint(arguments: argparse.Namespace) -> int:
    from googlenet_deploy.graph.files import load_model
    from googlenet_deploy.quantization.findings import ERROR
    from googlenet_deploy.quantization.lint import check_structure, has_quantisation, lint_model

    model = load_model(arguments.lint, repairable=True)
    check_structure(model, arguments.lint)
    findings = lint_model(model)
    if not has_quantisation(model):
        print(f"{arguments.lint}: is not quantised")
        if not findings:
            return 0
    print_findings(findings, f"{arguments.lint}: nothing that TensorRT would refuse")
    errors = sum(finding.severity == ERROR for finding in findings)
    repairable = sum(finding.repairable for finding in findings)
    if findings:
        print(f"{errors} errors, {len(findings) - errors} warnings; --repair repairs {repairable}")
    if errors:
        remedy = "quantize --repair repairs what can be repaired" if repairable else "quantise the FP32 model again"
        raise GateError(f"{arguments.lint}: TensorRT would refuse it", remedy)
    return 0


def _repair(arguments: argparse.Namespace) -> int:
    if not arguments.output:
        raise UsageError("--repair needs --output for the repaired model")
    from googlenet_deploy.graph.files import load_model, write_model
    from googlenet_deploy.quantization.lint import check_structure, has_quantisation
    from googlenet_deploy.quantization.repair import repair_model

    model = load_model(arguments.repair, repairable=True)
    check_structure(model, arguments.repair)
    result = repair_model(model, arguments.repair)
    if not has_quantisation(model):
        print(f"note: {arguments.repair}: is not quantised, so there is nothing to repair", file=sys.stderr)
    for line in result.changes:
        print(f"repaired: {printable(line, LONGEST_LINE)}")
    print_findings(result.left, "lint: nothing that TensorRT would refuse")
    print(result.difference)
    write_model(arguments.output, result.model)
    print(f"model: {arguments.output}")
    if any(finding.severity == "error" for finding in result.left):
        raise GateError(f"{arguments.output}: TensorRT would still refuse it", "quantise the FP32 model again")
    return 0


def print_findings(findings: Sequence[Finding], clean: str) -> None:
    """The findings, or a sentence that says that there are none."""
    if not findings:
        print(clean)
    for finding in findings[:SHOWN]:
        print(f"{finding.severity}: {printable(finding.text(), LONGEST_LINE)}")
    if len(findings) > SHOWN:
        print(f"... and {len(findings) - SHOWN} more")
