"""Runs one command on one damaged file in a forked child with limits of memory and time; returns the outcome."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import pkgutil
import re
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

import googlenet_deploy
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.onnx_model.header import read_model
from googlenet_deploy.device.predictions import predict
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.errors import GoogLeNetDeployError

# What the commands import is imported once, before the forks.
for _module in pkgutil.walk_packages(googlenet_deploy.__path__, "googlenet_deploy."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)

MEMORY = 3 * 2**30  # bytes beyond what the parent has mapped
SECONDS = 60
_TRACEBACK, _WRONG = 99, 98
# Differences in probability: float models may differ in the last bits, INT8 models by one step of the codes.
CLOSE, CLOSE_INT8 = 2e-3, 6e-2
GOOD = ("refused", "accepted", "equal")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Attributes:
        kind: "refused" (one line that names the file), "accepted", "equal" (the answer is ONNX Runtime's), or a fault:
            "traceback", "hang", "crash", "memory", "wrong", "unnamed" (the error names no file), "raw" (control
            characters in what was printed).
        detail: The place of a traceback, or the message.
    """

    kind: str
    detail: str

    @property
    def good(self) -> bool:
        """Whether it is not a fault."""
        return self.kind in GOOD

    @property
    def signature(self) -> str:
        """Equal for faults of the same kind."""
        return f"{self.kind}: {re.sub(r'[0-9]+', '#', self.detail)[:160]}" if not self.good else self.kind


def run_case(command: str, damaged: Path, corpus: Path, out: Path) -> Outcome:
    """Runs a command on a damaged file in a child of its own."""
    seconds = SECONDS
    words = [part.replace("{corpus}", str(corpus)).replace("{out}", str(out)) for part in command.split()]
    words = [str(damaged) if part == "{}" else part for part in words]
    log = out / "log"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(words, damaged, log, seconds)
    status = _wait(pid, seconds)
    text = log.read_bytes() if log.exists() else b""
    if status is None:
        return Outcome("hang", f"{words[0]}: more than {seconds:g} s")
    if os.WIFSIGNALED(status):
        return Outcome("crash", f"{words[0]}: {signal.Signals(os.WTERMSIG(status)).name}")
    return _judge(os.WEXITSTATUS(status), text, words, damaged)


def _child(words: list[str], damaged: Path, log: Path, seconds: float) -> None:
    code = _TRACEBACK
    try:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        faulthandler.disable()
        # A test runner may have replaced them by its own objects.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 5,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(log.parent)
        code = _run(words, damaged)
    except BaseException:  # noqa: BLE001 - such exceptions are the faults to find
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(words: list[str], damaged: Path) -> int:
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    if code != 0 or words[0] != "infer":
        return code
    sys.stdout.flush()
    answer = json.loads(Path("log").read_text(errors="replace").splitlines()[0])["classes"]
    problem = _difference(answer, words, damaged)
    if problem:
        print(f"wrong answer: {problem}", file=sys.stderr)
    return _WRONG if problem else 0


def _difference(answer: list[dict[str, Any]], words: list[str], damaged: Path) -> str:
    """How a result differs from that of ONNX Runtime without optimisation; empty if it does not."""
    file = read_model(damaged)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    alone = "onnxruntime" in words
    try:
        session = onnxruntime.InferenceSession(
            without_stated_types(file.content), options, providers=["CPUExecutionProvider"]
        )
        spec = file.header.metadata.preprocessing
        assert spec is not None
        image = load_image(Path(words[2]), mode="L" if spec.channels == "L" else "RGB")
        given = session.get_inputs()[0]
        batch = given.shape[0] if isinstance(given.shape[0], int) else 1  # filled up with copies, as the runners do
        outputs = session.run(None, {given.name: np.stack([preprocess(image, spec)] * batch)})
        names = [value.name for value in session.get_outputs()]
        result = predict(dict(zip(names, outputs, strict=True)), 4, str(damaged))
    except GoogLeNetDeployError as error:
        return f"accepted, though the answer is refused: {error.message}"
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class
        return f"accepted, though ONNX Runtime refuses it: {error}" if alone else ""
    values = result.scores if result.probabilities is None else result.probabilities
    theirs = dict(zip(result.indices[0].tolist(), values[0].tolist(), strict=True))
    ours = {entry["class"]: entry.get("probability", entry.get("score")) for entry in answer}
    close = CLOSE_INT8 if file.header.quantized else CLOSE
    scale = max(1.0, *(abs(value) for value in theirs.values()))
    far = [key for key in ours if key in theirs and not abs(ours[key] - theirs[key]) <= close * scale]
    if far or np.isnan(list(ours.values())).any() or (not file.header.quantized and set(ours) != set(theirs)):
        return f"{ours}, without optimisation {theirs}"
    return ""


def without_stated_types(content: bytes) -> bytes:
    """The model without stated types of inner tensors, which do not affect results; only ONNX Runtime reads them."""
    model = ModelProto.FromString(content)
    del model.graph.value_info[:]
    return model.SerializeToString()


def _wait(pid: int, seconds: float) -> int | None:
    """The child's status; None if it had to be killed."""
    end = time.monotonic() + seconds
    pause = 0.002
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _judge(code: int, text: bytes, words: list[str], damaged: Path) -> Outcome:
    shown = text.decode("utf-8", "replace")
    lines = [line for line in shown.splitlines() if line.strip()]
    if code in (_TRACEBACK, _WRONG) or "Traceback (most recent call last)" in shown:
        if code == _WRONG:
            return Outcome("wrong", f"{words[0]}: {lines[-1] if lines else ''}")
        places = re.findall(r'File "[^"]*/([^"/]+/[^"/]+)", line (\d+), in (\S+)', shown)
        last = ":".join(places[-1]) if places else "?"
        return Outcome("traceback", f"{words[0]}: {lines[-1][:100] if lines else ''} at {last}")
    if "out of memory" in shown:
        return Outcome("memory", words[0])
    if _CONTROL.search(text.replace(b"\r\n", b"\n").replace(b"\t", b" ")):
        return Outcome("raw", f"{words[0]}: control characters are printed")
    if code == 0:
        return Outcome("equal" if words[0] == "infer" else "accepted", "")
    message = next((line for line in lines if ": error: " in line), "")
    if code in (1, 3) and message and damaged.name not in message and damaged.parent.name not in message:
        return Outcome("unnamed", f"{words[0]}: {message.partition(': error: ')[2]}")
    return Outcome("refused", message)
