"""Findings of the lint, and their severity."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        severity: "error": TensorRT refuses it; "warning": it is slower or less accurate than it could be.
        rule: Short name of the rule.
        node: The affected node.
        message: What is wrong, and what TensorRT does with it.
        repairable: Whether `repair` repairs it.
    """

    severity: str
    rule: str
    node: str
    message: str
    repairable: bool = False

    def text(self) -> str:
        """One human-readable line."""
        return f"{self.node}: {self.message} [{self.rule}]"
