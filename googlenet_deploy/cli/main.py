"""``googlenet-deploy COMMAND``: finds the module, parses, runs, turns errors into exit statuses.

Only the chosen command's module is imported, and that module imports heavy packages inside `run`, so
``--help`` needs the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from importlib import import_module
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy import __version__
from googlenet_deploy.device.commands import DEVICE_COMMANDS, DEVICE_PROGRAM
from googlenet_deploy.device.signals import CtrlC
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import GoogLeNetDeployError

EXIT_STATUS_HELP = """\
exit status: 0 done; 1 failed, and the message states why; 2 wrong usage;
3 done, but a gate that you set fails."""
_BASE_PACKAGES = {
    "numpy": "pip install numpy, or apt install python3-numpy",
    "PIL": "pip install pillow, or apt install python3-pil",
}
LONGEST_MESSAGE = 2000  # characters
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Command(NamedTuple):
    """A command's one-line help and the other names that it answers to."""

    help: str
    aliases: Tuple[str, ...] = ()


COMMANDS: Dict[str, Command] = {
    "deploy": Command("end to end for one target: weights and photographs to a tested bundle and a report"),
    "train": Command("train a classifier from a folder of images"),
    "export": Command("weights to a verified, simplified ONNX model", ("export-onnx",)),
    "calibrate": Command("images and an FP32 ONNX model to a calibration table"),
    "quantize": Command("an FP32 ONNX model to INT8 with Q/DQ, checked; lint and repair"),
    "build": Command("ONNX to a TensorRT or TensorRT-RTX engine, with its precision proved", ("build-engine",)),
    "infer": Command("classify images", ("googlenet-infer",)),
    "evaluate": Command("top-1, top-5 and agreement with a reference"),
    "benchmark": Command("latency, throughput, memory and energy; comparison of two measurements"),
    "tune": Command("choose precision, batch, streams, threads and power mode by measurement, within limits"),
    "estimate": Command("bounds of latency and memory on a module that is not available, energy at its power cap"),
    "selftest": Command("check an unpacked bundle's files, and its answers against the workstation's"),
    "bundle": Command("pack for Jetson, Triton, DeepStream or jetson-inference; verify and unpack such bundles"),
    "doctor": Command("what this machine can run, and what is missing"),
    "inspect": Command("layers, types, sizes and costs of a model"),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; those of the process where None.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 3 a gate does not hold, 130 interrupted.
    """
    return _main(argv, COMMANDS, "googlenet-deploy")


def device_main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command of googlenet-device.pyz; see `main`."""
    return _main(argv, {name: COMMANDS[name] for name in DEVICE_COMMANDS if name in COMMANDS}, DEVICE_PROGRAM)


def run_command(name: str, argv: List[str], program: str) -> int:
    """Parses `argv` with the module of command `name`, runs it, and reports errors in one or two lines."""
    with CtrlC() as ctrl_c:
        try:
            _allow_any_file_name()
            status = _parse_and_run(name, argv, program)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk behind it shows here, not as Python's complaint at the end
        except KeyboardInterrupt:
            pass
        except Exception as error:  # noqa: BLE001 - what is not known is raised again there
            if not ctrl_c.pressed:
                return _report(program, error)
        else:
            return status
    print(f"{program}: interrupted", file=sys.stderr)
    return INTERRUPTED


def export_onnx() -> int:
    """Entry point of ``export-onnx``."""
    return run_command("export", sys.argv[1:], "export-onnx")


def build_engine() -> int:
    """Entry point of ``build-engine``."""
    return run_command("build", sys.argv[1:], "build-engine")


def googlenet_infer() -> int:
    """Entry point of ``googlenet-infer``."""
    return run_command("infer", sys.argv[1:], "googlenet-infer")


def _main(argv: Optional[Sequence[str]], commands: Dict[str, Command], program: str) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = _resolve(arguments[0], commands) if arguments else None
    if name is None:
        _overview_parser(commands, program).parse_args(arguments or ["--help"])
        return 2  # not reached: the parser exits
    return run_command(name, arguments[1:], f"{program} {name}")


def _parse_and_run(name: str, argv: List[str], program: str) -> int:
    arguments = command_parser(name, program).parse_args(argv)
    return int(import_module(f"googlenet_deploy.cli.{name}").run(arguments))


def command_parser(name: str, program: str) -> argparse.ArgumentParser:
    """The parser of a command, with all of its options.

    Args:
        name: A key of `COMMANDS`.
        program: What ``--help`` calls it.
    """
    from googlenet_deploy.device.options import sort_groups

    module = import_module(f"googlenet_deploy.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=program,
        description=module.__doc__,
        epilog=EXIT_STATUS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    sort_groups(parser)
    return parser


def _allow_any_file_name() -> None:
    """Lets names that are not UTF-8, which Linux allows, be printed with escapes instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Sends what is still to be printed nowhere, since Python would complain once more while closing stdout."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _resolve(word: str, commands: Dict[str, Command]) -> Optional[str]:
    for name, command in commands.items():
        if word == name or word in command.aliases:
            return name
    return None


def _report(program: str, error: Exception) -> int:
    """Prints an error that is no fault of the program and gives the exit status; raises it again otherwise."""
    if isinstance(error, BrokenPipeError):  # the reader has gone (``| head``)
        _discard_stdout()
    elif isinstance(error, OSError):
        _discard_stdout()
        reason = (error.strerror or str(error)).lower()
        print(f"{program}: error: {error.filename or 'standard output'}: {reason}", file=sys.stderr)
    elif isinstance(error, MemoryError):
        print(f"{program}: error: out of memory", file=sys.stderr)
    elif isinstance(error, GoogLeNetDeployError):
        # Names and texts from files are in it, which must not reach a terminal as they are.
        print(f"{program}: error: {printable(error.message, LONGEST_MESSAGE)}", file=sys.stderr)
        for line in (error.remedy or "").splitlines():
            print(f"  {printable(line, LONGEST_MESSAGE)}", file=sys.stderr)
        return error.exit_status
    elif isinstance(error, ModuleNotFoundError) and error.name in _BASE_PACKAGES:
        # The device part travels without an installer, so even these may be missing.
        print(f"{program}: error: this step needs the Python package '{error.name}'", file=sys.stderr)
        print(f"  {_BASE_PACKAGES[error.name]}", file=sys.stderr)
    else:
        raise error
    return 1


def _overview_parser(commands: Dict[str, Command], program: str) -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:10} {command.help}" for name, command in commands.items())
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} COMMAND [OPTION ...]",
        description="Takes a GoogLeNet classifier from PyTorch to an NVIDIA Jetson, and proves every step."
        f"\n\ncommands (each has its own --help):\n{listing}",
        epilog=EXIT_STATUS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    parser.add_argument("command", choices=list(commands), metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
