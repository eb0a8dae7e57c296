"""How to reproduce a deployment: commands, machine and versions."""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from googlenet_deploy.deployment.config import DEFAULT_GATES, DeployConfig
from googlenet_deploy.deployment.job import Job
from googlenet_deploy.device.options import option_words
from googlenet_deploy.device.system.machine import describe_machine

_PACKAGES = (
    "googlenet-deploy", "numpy", "pillow", "onnx", "onnxruntime", "onnxsim", "torch", "openvino", "tensorrt",
    "tensorrt-rtx-cu13",
)  # fmt: skip
_FIRST = ("weights", "images", "labels", "target", "precision", "output")
LINE = 72  # characters, above which each option begins a new line


def commands(job: Job) -> tuple[str, ...]:
    """The command that made this deployment, and those for the device."""
    lines = wrapped(command_of(job.config))
    if "bundle" in job.state.records:
        lines += [
            "",
            f"# on the {job.target.title}, with {job.path('bundle.zip').name} copied there",
            "unzip bundle.zip -d googlenet && cd googlenet",
            "./self-test.sh --files-only && ./build.sh",
            "python3 googlenet-device.pyz benchmark on-device/model.engine --json on-device/benchmark.json",
            "",
            "# here again, with benchmark.json copied back: the report then has the device's own figures",
            *wrapped(command_of(replace(job.config, device_results="benchmark.json"))),
        ]
    return tuple(lines)


def command_of(config: DeployConfig) -> str:
    """The command line for a configuration; defaults are omitted."""
    words = ["googlenet-deploy", "deploy"]
    for name in _FIRST:
        value = getattr(config, name)
        words += [f"--{name}", value] if value else []
    words += option_words(config, leave_out=(*_FIRST, "gates"))
    if dict(config.gates) != DEFAULT_GATES:
        words.append("--no-gates")
        words += [word for name, limit in config.gates.items() for word in ("--require", f"{name}={limit:g}")]
    return " ".join(map(shlex.quote, words))


def wrapped(command: str) -> list[str]:
    """A command wrapped at about `LINE` characters, broken before options in shell syntax."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and (not word.startswith("--") or len(lines[-1]) + len(word) < LINE):
            lines[-1] += f" {word}"
        else:
            lines = [*lines[:-1], f"{lines[-1]} \\", f"    {word}"] if lines else [word]
    return lines


def environment() -> dict[str, str]:
    """Machine, system and the versions of the packages involved."""
    machine = describe_machine()
    found = {"machine": f"{machine.processor or machine.model}, {machine.cores} cores", "system": machine.system}
    if machine.gpu:
        found["GPU"] = f"{machine.gpu}, driver {machine.driver}"
    found["Python"] = machine.python
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
