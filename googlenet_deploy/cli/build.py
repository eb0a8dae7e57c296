"""Build a TensorRT or TensorRT-RTX engine from an ONNX model, and prove which precision it runs in.

TensorRT builds for the GPU that it runs on, so Jetson engines are built on the Jetson. TensorRT-RTX builds ahead of
time for the GPUs named by --compute-capability, on any machine. The manifest X.engine.json beside the engine records
what it was built from, for which GPU and version, and the type that every layer computes in.

Examples:
  googlenet-deploy build model.int8.onnx --output model.engine --batch 1,8,32 --require int8=0.95
  googlenet-deploy build model.fp16.onnx --backend tensorrt-rtx --compute-capability 8.6,8.9,12.0 --output model.engine
  googlenet-deploy build model.onnx --precision int8 --calibration-cache model.cache --output model.engine
  googlenet-deploy build model.int8.onnx --target jetpack-5.1 --dry-run --also-trtexec
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Callable, List, Optional

from googlenet_deploy.device.text import printable_lines

if TYPE_CHECKING:
    from googlenet_deploy.device.builder.options import BuildOptions
    from googlenet_deploy.device.builder.plan import BuildPlan
    from googlenet_deploy.device.builder.platform import Site
    from googlenet_deploy.device.onnx_model.header import OnnxHeader
    from googlenet_deploy.device.targets.target import Target

SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from googlenet_deploy.device.builder.options import PRECISION, BuildOptions
    from googlenet_deploy.device.options import add_options, option_group

    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--output", metavar="FILE", help="where the engine goes (default: MODEL with .engine)")
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), help="default: tensorrt")
    parser.add_argument("--target", metavar="T", help="a module, JetPack or TensorRT: check and plan for it")
    parser.add_argument("--dry-run", action="store_true", help="parse, say what would be built, build nothing")
    parser.add_argument("--also-trtexec", action="store_true", help="print the trtexec command that does the same")
    parser.add_argument(
        "--write-onnx", metavar="FILE", help="write the model as TensorRT gets it, where Q/DQ nodes are removed"
    )
    parser.add_argument("--json", metavar="FILE", help="write the plan (with --dry-run) or the manifest there too")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    option_group(parser, PRECISION).add_argument(
        "--require",
        action="append",
        default=[],
        metavar="TYPE=SHARE",
        help="exit 3 below this share, such as int8=0.95",
    )
    add_options(parser, BuildOptions)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from googlenet_deploy.device.engine.layers import parse_gates
    from googlenet_deploy.device.targets.target import load_target

    options = _options(arguments)
    gates = parse_gates(arguments.require)
    target = load_target(arguments.target) if arguments.target else None
    if arguments.dry_run:
        return _dry_run(arguments, options, target)
    from googlenet_deploy.device.builder.report import check_gates, result_lines
    from googlenet_deploy.device.builder.run import build_engine, find_here, make_request
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.device.progress import progress

    say = _sayer(arguments)
    here = find_here(arguments.backend, options, target)
    request = make_request(arguments.model, options, here, _rebuild_command(arguments, options))
    plan, output = request.plan, _output(arguments)
    say(f"{here.library.label}: {plan.dialect} {plan.precision} build of {arguments.model}")
    known = [*plan.notes, *request.notes]
    for note in known:
        say(f"note: {note}")
    with progress("build", quiet=arguments.quiet) as advance:
        result = build_engine(request, here.library, output, step=lambda *_: advance(1), calibrated=advance)
    for note in result.manifest.notes[len(known) :]:
        say(f"note: {note}")
    _say_warnings(say, here.library.label, result.warnings)
    _write_onnx(arguments, plan)
    if arguments.json:
        write_json(arguments.json, result.manifest.to_dict())
    if not arguments.quiet:
        print(printable_lines(result_lines(output, result)))
        _print_trtexec(arguments, request.header, options, plan, [here.site])
    check_gates(result, gates)
    return 0


def _say_warnings(say: Callable[[str], None], label: str, warnings: List[str]) -> None:
    for warning in warnings[:SHOWN]:
        say(f"{label} warns: {warning}")
    if len(warnings) > SHOWN:
        say(f"{label} warns {len(warnings) - SHOWN} times more")


def _options(arguments: argparse.Namespace) -> BuildOptions:
    from googlenet_deploy.device.builder.options import BuildOptions
    from googlenet_deploy.device.options import given_options

    return BuildOptions(**given_options(arguments, BuildOptions))


def _dry_run(arguments: argparse.Namespace, options: BuildOptions, target: Optional[Target]) -> int:
    from googlenet_deploy.device.builder.report import plan_lines
    from googlenet_deploy.device.builder.run import dry_run
    from googlenet_deploy.device.files import write_json

    found = dry_run(arguments.model, options, arguments.backend, target)
    if not arguments.quiet:
        print(printable_lines(plan_lines(arguments.model, found, options)))
        _print_trtexec(arguments, found.header, options, found.plan, found.sites())
        print("nothing was built (--dry-run)")
    _write_onnx(arguments, found.plan)
    if arguments.json:
        write_json(arguments.json, found.to_dict())
    return 0


def _write_onnx(arguments: argparse.Namespace, plan: BuildPlan) -> None:
    """Writes the model without Q/DQ, for trtexec on a device whose Python is too old for this command."""
    if not arguments.write_onnx:
        return
    from googlenet_deploy.device.files import write_bytes
    from googlenet_deploy.device.onnx_model.header import read_model
    from googlenet_deploy.device.onnx_model.strip_qdq import strip_quantization

    content = read_model(arguments.model).content
    if plan.strip_qdq:
        content, _ = strip_quantization(content, arguments.model)
    write_bytes(arguments.write_onnx, content)


def _print_trtexec(
    arguments: argparse.Namespace, header: OnnxHeader, options: BuildOptions, plan: BuildPlan, sites: List[Site]
) -> None:
    from googlenet_deploy.device.builder.trtexec import trtexec_command

    model = arguments.write_onnx or arguments.model
    for site in sites if arguments.also_trtexec else ():
        print(f"{site.label}: {trtexec_command(header, model, _output(arguments), options, plan, site)}")


def _output(arguments: argparse.Namespace) -> str:
    from pathlib import Path

    return arguments.output or str(Path(arguments.model).with_suffix(".engine"))


def _rebuild_command(arguments: argparse.Namespace, options: BuildOptions) -> str:
    """The command line without what does not change the engine."""
    from googlenet_deploy.device.options import option_words

    words = ["googlenet-deploy", "build", arguments.model]
    for name in ("backend", "output", "target"):
        if getattr(arguments, name):
            words += [f"--{name}", str(getattr(arguments, name))]
    return " ".join(shlex.quote(word) for word in [*words, *option_words(options)])


def _sayer(arguments: argparse.Namespace) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr)

    return say
