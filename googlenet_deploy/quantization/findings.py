"""How grave a remark of the lint is."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One remark.

    Attributes:
        severity: "error": TensorRT refuses it; "warning": it is slower or less accurate than it could be.
        rule: Short name of the rule.
        node: The node that it is about.
        message: What is wrong, and what TensorRT makes of it.
        repairable: Whether `repair` repairs it.
    """

    severity: str
    rule: str
    node: str
    message: str
    repairable: bool = False

    def text(self) -> str:
        """One line for people."""
        return f"{self.node}: {self.message} [{self.rule}]"
