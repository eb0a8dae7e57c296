"""Pack what a device needs.

--device-only writes googlenet-device.pyz: build, infer, benchmark, selftest and doctor in one file that any Python 3.8
or later with NumPy and Pillow runs; it brings neither torch nor onnx and installs nothing. TensorRT, or ONNX Runtime,
is taken from where the device has it.

Examples:
  googlenet-deploy bundle --device-only
  googlenet-deploy bundle --device-only --output /media/stick/googlenet-device.pyz
  python3 googlenet-device.pyz infer model.engine photo.jpg
"""

from __future__ import annotations

import argparse

from googlenet_deploy.errors import UsageError

DEVICE_FILE = "googlenet-device.pyz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--device-only", action="store_true", help="the commands for a device alone, as one file")
    parser.add_argument("--output", metavar="FILE", help=f"where it goes (default: {DEVICE_FILE})")


def run(arguments: argparse.Namespace) -> int:
    """Writes the bundle."""
    if not arguments.device_only:
        raise UsageError("say what to pack", "give --device-only")
    return _device(arguments.output or DEVICE_FILE)


def _device(output: str) -> int:
    from googlenet_deploy.packaging.device_zipapp import write_device_zipapp

    size = write_device_zipapp(output)
    print(f"{output}: {size / 1e3:.0f} kB, for Python 3.8 or later with NumPy and Pillow")
    return 0
