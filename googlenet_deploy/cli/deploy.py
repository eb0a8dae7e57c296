"""The whole way for one target: weights and photographs to a tested bundle and a report.

Exports and verifies, calibrates, quantises, evaluates every precision on images that calibration did not see, estimates
what the target can do, builds what this machine can build, packs a bundle and runs its self-test, and writes
report.html. A step whose inputs did not change is skipped; what was interrupted goes on with the same command. It stops
at the first gate that does not hold, with exit status 3.

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
from typing import Any, Dict, Tuple

from googlenet_deploy.cli.arguments import gate

OPTIONS = (
    "weights", "images", "labels", "target", "precision", "output", "calibration_images", "evaluation_images", "seed",
    "method", "refine", "batch", "golden_images", "compute_capabilities", "threads",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options; every one overrides the configuration file."""
    parser.add_argument("--weights", metavar="W", help="a checkpoint, or bvlc or torchvision for the published weights")
    parser.add_argument("--images", metavar="DIR", help="photographs: some calibrate, the others evaluate")
    parser.add_argument("--labels", metavar="FILE", help="CSV of filename,label (default: a folder per class, or none)")
    parser.add_argument("--target", metavar="T", help="a module such as orin-nano, a JetPack, or tensorrt-rtx")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="what is deployed (default int8)")
    parser.add_argument("--output", metavar="DIR", help="the folder for everything that is made")
    parser.add_argument("--config", metavar="FILE", help="a TOML file with these options under their names")
    parser.add_argument("--print-config", action="store_true", help="print the configuration as TOML, do nothing")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_details(parser.add_argument_group("details"))
    gates = parser.add_argument_group("gates")
    gates.add_argument(
        "--require",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help="top1, top5, agreement (percent, at least), sqnr (dB, at least), loss (points of top-1 against FP32, at "
        "most); may be repeated (default agreement=95)",
    )
    gates.add_argument("--no-gates", action="store_true", help="require nothing but what --require names")


def _add_details(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--calibration-images", type=int, metavar="N", help="default 256, at most two thirds of all")
    group.add_argument("--evaluation-images", type=int, metavar="N", help="at most (default 0: all others)")
    group.add_argument("--seed", type=int, metavar="N", help="of the draw between them (default 0)")
    group.add_argument("--method", choices=("auto", "max", "percentile", "entropy", "mse"), help="thresholds")
    group.add_argument(
        "--refine", metavar="LIST", help="refinements of INT8, see `quantize` (default fast; none, best)"
    )
    group.add_argument("--batch", metavar="N|MIN,OPT,MAX", help="of the engine (default 1,4,16)")
    group.add_argument("--golden-images", type=int, metavar="N", help="in the bundle's self-test (default 6)")
    group.add_argument("--compute-capabilities", type=_words, metavar="LIST", help="for tensorrt-rtx: such as 8.6,8.9")
    group.add_argument("--no-benchmark", action="store_true", help="do not measure this machine's own latency")
    group.add_argument("--no-sensitivity", action="store_true", help="do not measure what INT8 costs in each layer")
    group.add_argument(
        "--budget",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help="keep the fewest layers in floating point that hold top1 (points lost), agreement (percent) or sqnr (dB); "
        "a third set of images judges; may be repeated",
    )
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")


def run(arguments: argparse.Namespace) -> int:
    """Deploys, or prints the configuration."""
    from googlenet_deploy.deployment.config import config_text, make_config, read_config

    values = read_config(arguments.config) if arguments.config else {}
    limits = {"gates": _gates(arguments, values), "budget": {**values.get("budget", {}), **dict(arguments.budget)}}
    config = make_config({**values, **_given(arguments), **limits})
    if arguments.print_config:
        print(config_text(config), end="")
        return 0
    from googlenet_deploy.deployment.pipeline import deploy

    try:
        result = deploy(config, _ignore if arguments.quiet else _say, quiet=arguments.quiet)
    except KeyboardInterrupt:
        print("\nnote: what was finished is kept; the same command goes on from here", file=sys.stderr)
        raise
    if not arguments.quiet:
        print(f"\n{result.folder / 'report.html'} tells what was found")
        for name in ("bundle.zip", "model.engine"):
            if (result.folder / name).exists():
                print(f"{result.folder / name} is for the device")
    return 0


def _given(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The options that were given, by the configuration's names."""
    from googlenet_deploy.device.builder.options import parse_batch

    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    if "batch" in given:
        given["batch"] = parse_batch(given["batch"])
    switched_off = [name for name in ("benchmark", "sensitivity") if getattr(arguments, f"no_{name}")]
    return {**given, **dict.fromkeys(switched_off, False)}


def _gates(arguments: argparse.Namespace, values: Dict[str, Any]) -> Dict[str, float]:
    from googlenet_deploy.deployment.config import DEFAULT_GATES

    base = {} if arguments.no_gates else values.get("gates", DEFAULT_GATES)
    return {**base, **dict(arguments.require)}


def _say(line: str) -> None:
    print(line, flush=True)


def _ignore(line: str) -> None:
    del line


def _words(text: str) -> Tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
