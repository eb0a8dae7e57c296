"""How to do it again: commands, environment, hashes."""

from __future__ import annotations

from googlenet_deploy.report.document import Absent, Block, Code, Section, table
from googlenet_deploy.report.results import Results


def section(results: Results) -> Section:
    """The section "Reproduce"."""
    lead = "Equal inputs give equal files, byte for byte; the hashes tell."
    blocks: list[Block] = []
    if results.commands:
        blocks.append(Code("Commands", "\n".join(results.commands)))
    else:
        blocks.append(Absent("Commands", results.why_missing("commands")))
    subject = results.subject
    files = [(f"{subject.weights} (from)", subject.weights_sha256), *results.artefacts.items()]
    blocks.append(table("Files", ("file", "SHA-256"), files, (0, 1)))
    if results.environment:
        blocks.append(table("Environment", ("", "version"), list(results.environment.items()), (0, 1)))
    return Section("reproduce", "Reproduce", lead, tuple(blocks))
