"""Show what this machine can run, what is missing, and how to fix that.

Looks for a GPU or Jetson module, JetPack and power mode, TensorRT, TensorRT-RTX, CUDA access from Python, ONNX Runtime,
OpenVINO and a power meter. Exit status 0 whatever it finds; with --require TASK it is 3 where that task cannot be done.

Examples:
  googlenet-deploy doctor
  googlenet-deploy doctor --json machine.json
  googlenet-deploy doctor --require build
"""

from __future__ import annotations

import argparse

from googlenet_deploy.errors import GateError

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


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
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
