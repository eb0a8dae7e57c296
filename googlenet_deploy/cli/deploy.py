"""Deploy end to end for one target: weights and photographs to a tested bundle and a report.

Exports and verifies, calibrates, quantises, evaluates every precision on images that calibration did not see, estimates
latency and memory on the target, builds an engine where this machine can, packs a bundle, runs its self-test, and
writes report.html. Steps whose inputs did not change are skipped; after an interruption the same command resumes. It
stops at the first gate that fails, with exit status 3.

Examples:
  googlenet-deploy deploy --weights bvlc --images photos/ --target orin-nano --output build/orin
  googlenet-deploy deploy --weights mine.safetensors --images val/ --labels val.csv --target jetpack-5.1 --output d/
  googlenet-deploy deploy --config deploy.toml --precision fp16
  googlenet-deploy deploy --config deploy.toml --print-config
  googlenet-deploy deploy --weights w.safetensors --images val/ --target nano --output d/ --require agreement=98
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options; every one overrides the configuration file."""
    from googlenet_deploy.deployment.config import DeployConfig
    from googlenet_deploy.device.options import add_options, option_group

    parser.add_argument("--config", metavar="FILE", help="a TOML file with these options under their names")
    parser.add_argument("--print-config", action="store_true", help="print the configuration as TOML, do nothing")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_options(parser, DeployConfig)
    option_group(parser, "gates").add_argument(
        "--no-gates", action="store_true", help="require nothing but what --require names"
    )


def run(arguments: argparse.Namespace) -> int:
    """Deploys, or prints the configuration."""
    from googlenet_deploy.deployment.config import DeployConfig, config_text, make_config, read_config
    from googlenet_deploy.device.options import given_options

    values = read_config(arguments.config) if arguments.config else {}
    given = given_options(arguments, DeployConfig)
    given["budget"] = {**values.get("budget", {}), **given.get("budget", {})}
    given["gates"] = {**_base_gates(arguments, values), **given.get("gates", {})}
    config = make_config({**values, **given})
    if arguments.print_config:
        print(config_text(config), end="")
        return 0
    from googlenet_deploy.deployment.pipeline import deploy

    try:
        result = deploy(config, _ignore if arguments.quiet else _say, quiet=arguments.quiet)
    except KeyboardInterrupt:
        print("\nnote: what was finished is kept; the same command resumes here", file=sys.stderr)
        raise
    if not arguments.quiet:
        print(f"\nReport: {result.folder / 'report.html'}")
        for title, name in (("Device bundle", "bundle.zip"), ("Engine", "model.engine")):
            if (result.folder / name).exists():
                print(f"{title}: {result.folder / name}")
    return 0


def _base_gates(arguments: argparse.Namespace, values: Dict[str, Any]) -> Dict[str, float]:
    from googlenet_deploy.deployment.config import DEFAULT_GATES

    return {} if arguments.no_gates else values.get("gates", DEFAULT_GATES)


def _say(line: str) -> None:
    print(line, flush=True)


def _ignore(line: str) -> None:
    del line
