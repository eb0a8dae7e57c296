"""Show what this machine can run, what is missing, and how to fix that.

Looks for a GPU or Jetson module, JetPack and power mode, TensorRT, TensorRT-RTX, CUDA access from Python, ONNX Runtime,
OpenVINO and a power meter. Exit status 0 whatever it finds; with --require TASK it is 3 where that task cannot be done.

Examples:
  googlenet-deploy doctor
  googlenet-deploy doctor --json machine.json
  googlenet-deploy doctor --require build
  googlenet-deploy doctor --completion bash
"""

from __future__ import annotations

import argparse
from types import ModuleType

from googlenet_deploy.errors import GateError, UsageError, requires

SHELLS = ("bash", "zsh")
# What stands for a path in --help.
_FILES, _FOLDERS = ("FILE", "MODEL", "PATH", "ONNX", "ENGINE", "A", "B"), ("DIR", "FOLDER")
TASKS = {
    "onnxruntime": "infer and evaluate with ONNX Runtime",
    "export": "export",
    "build": "build TensorRT engines",
    "run": "run TensorRT engines",
    "int8": "INT8 engines",
    "rtx": "build TensorRT-RTX engines ahead of time",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", metavar="FILE", help="write everything to a file")
    parser.add_argument("--require", choices=TASKS, metavar="TASK", help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        metavar="SHELL",
        help="print a completion script for bash or zsh instead: source it, or save it where the shell looks",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.completion:
        if arguments.json or arguments.require:
            raise UsageError("--completion prints a script and looks at nothing", "leave the other options out")
        print(completion_script(arguments.completion))
        return 0
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.device.system.doctor import diagnose, diagnosis_lines

    diagnosis = diagnose()
    print("\n".join(diagnosis_lines(diagnosis)))
    if arguments.json:
        write_json(arguments.json, diagnosis.to_dict())
    if arguments.require:
        wanted = next(item for item in diagnosis.abilities if item.name == TASKS[arguments.require])
        if not wanted.ok:
            raise GateError(f"this machine cannot: {wanted.name} ({wanted.text})", wanted.remedy or None)
    return 0


def completion_script(shell: str) -> str:
    """A script that completes the commands, their options and the names of files.

    Args:
        shell: One of `SHELLS`.

    Raises:
        MissingExtraError: shtab is not installed.
    """
    from googlenet_deploy.cli.main import COMMANDS, command_parser

    with requires("completion"):
        import shtab

    program = "googlenet-deploy"
    parser = argparse.ArgumentParser(prog=program, description="From PyTorch to an NVIDIA Jetson.")
    commands = parser.add_subparsers(dest="command")
    for name, command in COMMANDS.items():
        source = command_parser(name, f"{program} {name}")
        for action in source._actions:
            _complete_values(action, shtab)
        commands.add_parser(name, help=command.help, parents=[source], add_help=False)
    return str(shtab.complete(parser, shell))


def _complete_values(action: argparse.Action, shtab: ModuleType) -> None:
    metavar = action.metavar[0] if isinstance(action.metavar, tuple) else action.metavar
    if metavar in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined] # where shtab looks for it
    elif metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif metavar is not None and metavar.startswith("{"):  # options declared once check their choices themselves
        action.choices = metavar.strip("{}").split(",")
