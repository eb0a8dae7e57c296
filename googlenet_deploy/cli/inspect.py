"""Show the contents of a model or an engine: layers, sizes, types, fusions, multiply-adds, memory.

MODEL is an ONNX file of any tool, an engine that `build` wrote (with its manifest beside it), or the JSON of TensorRT's
engine inspector; for engines it also lists layers that fell back to a wider type, and the likely reason. With --model
or --weights the PyTorch network is measured instead, as in the paper's Table 1: each layer's output size, parameters,
multiply-adds and activation bytes, and the largest activation memory that is live at once.

Examples:
  googlenet-deploy inspect model.onnx
  googlenet-deploy inspect model.onnx --json model.json --totals
  googlenet-deploy inspect model.engine
  googlenet-deploy inspect --model bvlc
  googlenet-deploy inspect --weights mine.safetensors --by-layer
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from googlenet_deploy.cli.arguments import positive, refuse_unused
from googlenet_deploy.device.text import printable_lines
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.model.summary import LayerCost, ModelSummary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("path", nargs="?", metavar="MODEL", help="an ONNX model, an engine, or an inspector's JSON")
    parser.add_argument("--model", choices=("bvlc", "torchvision"), help="measure this architecture instead")
    parser.add_argument("--weights", metavar="W", help="measure the network of these weights instead")
    parser.add_argument("--json", metavar="FILE", help="write everything to a file")
    onnx = parser.add_argument_group("for a file")
    onnx.add_argument("--totals", action="store_true", help="print the totals without the layers")
    onnx.add_argument("--batch", type=positive, default=1, metavar="N", help="stands for an ONNX model's open batch")
    network = parser.add_argument_group("for --model and --weights")
    network.add_argument("--by-layer", action="store_true", help="every layer instead of one line per Inception module")
    network.add_argument("--classes", type=positive, default=1000, metavar="N", help="with --model (default 1000)")
    network.add_argument("--input-size", type=positive, metavar="N", help="height and width of the input (default 224)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table of an ONNX model or of a PyTorch network."""
    given = [arguments.path, arguments.model, arguments.weights]
    if sum(value is not None for value in given) != 1:
        raise UsageError("inspect accepts exactly one of MODEL, --model and --weights")
    if arguments.path is not None:
        network = {"by_layer": False, "classes": 1000, "input_size": None}
        refuse_unused(arguments, network, "is for --model and --weights, not for a file")
        _inspect_file(arguments)
    else:
        refuse_unused(arguments, {"totals": False, "batch": 1}, "is for a file, not for --model and --weights")
        _inspect_network(arguments)
    return 0


def _inspect_file(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from googlenet_deploy.device.engine.contents import SUFFIXES
    from googlenet_deploy.device.engine.manifest import manifest_path

    suffix = Path(arguments.path).suffix.lower()
    if suffix in SUFFIXES or manifest_path(arguments.path).is_file():
        _inspect_engine(arguments, inspector=False)
    elif suffix == ".json":
        _inspect_engine(arguments, inspector=True)
    else:
        _inspect_onnx(arguments)


def _inspect_engine(arguments: argparse.Namespace, *, inspector: bool) -> None:
    from googlenet_deploy.device.engine.contents import engine_report, inspection_report
    from googlenet_deploy.device.files import write_json

    lines, values = (inspection_report if inspector else engine_report)(arguments.path, layers=not arguments.totals)
    print(printable_lines(lines))
    if arguments.json:
        write_json(arguments.json, values)


def _inspect_onnx(arguments: argparse.Namespace) -> None:
    from googlenet_deploy.analysis.inspect import describe, table_lines
    from googlenet_deploy.device.files import write_json

    description = describe(arguments.path, arguments.batch)
    print(printable_lines(table_lines(description, layers=not arguments.totals)))
    if arguments.json:
        write_json(arguments.json, description.to_dict())


def _inspect_network(arguments: argparse.Namespace) -> None:
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.model.summary import summarize

    title, model, input_size = _network(arguments)
    summary = summarize(model, input_size)
    print(f"{title}, input {input_size}x{input_size}, one image, activations in float32")
    print(printable_lines(_table(summary.layers if arguments.by_layer else summary.by_module())))
    print(printable_lines(_totals(summary)))
    if arguments.json:
        write_json(arguments.json, _to_dict(title, input_size, summary))


def _network(arguments: argparse.Namespace) -> Tuple[str, Any, int]:
    """A title, the network, and the size of its input."""
    from googlenet_deploy.model.architecture import get_architecture
    from googlenet_deploy.model.googlenet import GoogLeNet

    if arguments.model is not None:
        title = f"GoogLeNet {arguments.model}, {arguments.classes} classes"
        model = GoogLeNet(get_architecture(arguments.model), arguments.classes)
        return title, model, arguments.input_size or 224
    from googlenet_deploy.model.weights import load_weights

    checkpoint = load_weights(arguments.weights)
    title = f"{arguments.weights}: GoogLeNet {checkpoint.architecture.name}, {checkpoint.model.num_classes} classes"
    return title, checkpoint.model, arguments.input_size or checkpoint.preprocessing.crop[0]


def _table(layers: Tuple[LayerCost, ...]) -> List[str]:
    from googlenet_deploy.device.text import columns

    rows = [("layer", "type", "output", "parameters", "multiply-adds", "bytes", "live bytes")]
    for layer in layers:
        figures = (layer.parameters, layer.multiply_adds, layer.activation_bytes, layer.live_bytes)
        output = "x".join(str(size) for size in layer.output)
        texts = [f"{figure:,}" if figure else "" for figure in figures]
        rows.append((layer.name, layer.kind, output, texts[0], texts[1], texts[2], texts[3]))
    return columns(rows, words=3)


def _totals(summary: ModelSummary) -> List[str]:
    return [
        f"parameters     {summary.parameters:,}",
        f"multiply-adds  {summary.multiply_adds:,}",
        f"live at once   {summary.peak.live_bytes:,} bytes at most, at {summary.peak.name}",
    ]


def _to_dict(title: str, input_size: int, summary: ModelSummary) -> Dict[str, Any]:
    from dataclasses import asdict

    return {
        "network": title,
        "input_size": input_size,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "peak_live_bytes": summary.peak.live_bytes,
        "peak_layer": summary.peak.name,
        "layers": [asdict(layer) for layer in summary.layers],
    }
