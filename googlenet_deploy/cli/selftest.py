"""Check that an unpacked Jetson bundle is complete, and that this machine computes what the workstation did.

Every file is checked against its hash, images are prepared and compared with the workstation's pixels, and each model
that can run here (ONNX Runtime, and the engine that build.sh made) is compared with the recorded scores. Exit status 1
where anything differs by more than golden/golden.json allows.

Examples:
  python3 googlenet-device.pyz selftest
  python3 googlenet-device.pyz selftest googlenet/ --files-only
  googlenet-deploy selftest googlenet/ --json checks.json
"""

from __future__ import annotations

import argparse

from googlenet_deploy.device.text import printable_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="the unpacked bundle (default: here)")
    parser.add_argument("--files-only", action="store_true", help="check files and the preparation of images only")
    parser.add_argument("--engine", metavar="FILE", help="the engine to test (default: DIR/on-device/model.engine)")
    parser.add_argument("--json", metavar="FILE", help="write the checks to a file")


def run(arguments: argparse.Namespace) -> int:
    """Runs the self-test; 0 where everything holds, else 1."""
    from dataclasses import asdict

    from googlenet_deploy.device.bundle.selftest import check_lines, failed, self_test
    from googlenet_deploy.device.files import write_json

    checks = self_test(arguments.folder, files_only=arguments.files_only, engine=arguments.engine)
    print(printable_lines(check_lines(checks)))
    if arguments.json:
        write_json(arguments.json, [asdict(check) for check in checks])
    return 1 if failed(checks) else 0
