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
from typing import TYPE_CHECKING, List, Optional

from googlenet_deploy.cli.arguments import print_note
from googlenet_deploy.device.text import printable_lines

if TYPE_CHECKING:
    from googlenet_deploy.device.builder.options import BuildOptions
    from googlenet_deploy.device.builder.plan import BuildPlan
    from googlenet_deploy.device.builder.platform import Site
    from googlenet_deploy.device.onnx_model.header import OnnxHeader
    from googlenet_deploy.device.targets.target import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from googlenet_deploy.device.builder.options import PRECISION, BuildOptions
    from googlenet_deploy.device.options import add_options, option_group

    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--output", metavar="FILE", help="where the engine goes (default: MODEL with .engine)")
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), help="default: tensorrt")
    parser.add_argument("--target", metavar="T", help="a module, JetPack or TensorRT: check and plan for it")
    parser.add_argument("--dry-run", action="store_true", help="parse, print what would be built, build nothing")
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
    from googlenet_deploy.device.builder.build import build
    from googlenet_deploy.device.builder.report import check_gates, result_lines
    from googlenet_deploy.device.files import write_json

    built = build(
        arguments.model,
        _output(arguments),
        options=options,
        backend=arguments.backend,
        target=target,
        rebuild=_rebuild_command(arguments, options),
        quiet=arguments.quiet,
        report=_ignore if arguments.quiet else print_note,
    )
    plan = built.request.plan
    _write_onnx(arguments, plan)
    if arguments.json:
        write_json(arguments.json, built.result.manifest.to_dict())
    if not arguments.quiet:
        print(printable_lines(result_lines(built.path, built.result)))
        _print_trtexec(arguments, built.request.header, options, plan, [built.here.site])
    check_gates(built.result, gates)
    return 0


def _ignore(_line: str) -> None:
    pass


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
    if arguments.write_onnx:
        from googlenet_deploy.device.builder.build import write_parsed_onnx

        write_parsed_onnx(arguments.model, plan, arguments.write_onnx)


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
