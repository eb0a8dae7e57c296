"""onnxsim: constants folded, redundant nodes removed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import googlenet_deploy
from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.export.simplify_worker import CHECK_FAILED, NOT_INSTALLED
from googlenet_deploy.graph.graph import serialize

with requires("export"):
    from google.protobuf.message import DecodeError
    from onnx import ModelProto, NodeProto

# GoogLeNet takes a second; a graph that takes this long is not one that onnxsim will finish.
TIME_LIMIT_SECONDS = 300


class Simplify:
    """Runs onnxsim in a process of its own and uses its graph; the metadata and versions stay the model's own."""

    name = "onnxsim"
    description = "constants folded, redundant nodes removed"
    optional = True

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: onnxsim is not installed, failed, crashed or took too long.
        """
        simplified = _simplify(model)
        if [_content(node) for node in simplified.graph.node] == [_content(node) for node in model.graph.node]:
            return False
        model.graph.CopyFrom(simplified.graph)
        return True


def _content(node: NodeProto) -> tuple[object, ...]:
    """The content of a node, regardless of the order of its attributes and of notes that tools left."""
    values = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return node.domain, node.op_type, node.name, tuple(node.input), tuple(node.output), tuple(values)


def _simplify(model: ModelProto) -> ModelProto:
    with tempfile.TemporaryDirectory(prefix="googlenet-deploy-") as folder:
        source, target = Path(folder) / "input.onnx", Path(folder) / "output.onnx"
        source.write_bytes(serialize(model))
        status, output = _run_worker(source, target)
        if status == 0 and target.is_file():
            try:
                simplified: ModelProto = ModelProto.FromString(target.read_bytes())
            except DecodeError:
                raise VerificationError("onnxsim wrote a file that is not ONNX") from None
            return simplified
    raise VerificationError(_explain(status, output))


def _run_worker(source: Path, target: Path) -> tuple[int, str]:
    package = Path(googlenet_deploy.__file__).parent.parent
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "googlenet_deploy.export.simplify_worker", str(source), str(target)]
    try:
        finished = subprocess.run(  # noqa: S603 - our own module and temporary files
            command,
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            errors="replace",
            text=True,
            timeout=TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise VerificationError(f"onnxsim took longer than {TIME_LIMIT_SECONDS} s") from None
    return finished.returncode, finished.stderr


def _explain(status: int, output: str) -> str:
    if status == NOT_INSTALLED:
        return "onnxsim is not installed"
    if status == CHECK_FAILED:
        return "onnxsim's own check of its result failed"
    if status < 0:
        return f"onnxsim crashed (signal {-status})"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"onnxsim failed: {lines[-1] if lines else f'exit status {status}'}"
