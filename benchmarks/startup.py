"""How long the command line takes to answer, in whole processes.

``--help`` of every command (held to 0.2 s) beside bare Python; and ``infer`` on one image (start-up held to 1 s) beside
a script of a few lines over Pillow and onnxruntime that does the same.

    python benchmarks/startup.py [--rounds 5] [--record]
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable

from harness import IMAGES, Timing, bvlc_onnx, interleaved, options, record, say, table

from googlenet_deploy.cli.main import COMMANDS

HELP_SECONDS, INFER_SECONDS = 0.2, 1.0
SCRIPT = """
import sys
import numpy
import onnxruntime
from PIL import Image
image = Image.open(sys.argv[2]).convert("RGB").resize((224, 224))
pixels = numpy.asarray(image, numpy.float32)[:, :, ::-1] - (104, 117, 123)
session = onnxruntime.InferenceSession(sys.argv[1])
logits = session.run(None, {"input": pixels.astype("float32").transpose(2, 0, 1)[None]})[0]
print(logits.argmax())
"""


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ours(*arguments: str) -> Callable[[], None]:
    """A call of the command line."""
    return functools.partial(run, "-m", "googlenet_deploy", *arguments)


def report(timings: dict[str, Timing], peer: str) -> dict[str, float]:
    """Prints seconds and the ratios to the peer; returns the ratios."""
    ratios = {name: 1 / timing.ratio_to(timings[peer]) for name, timing in timings.items()}
    rows = [(name, f"{timing.median * 1e3:.0f}", f"{ratios[name]:.1f}") for name, timing in timings.items()]
    table(("", "median ms", f"times {peer}"), rows)
    return ratios


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    python, script = "python -c pass", "plain script"
    helps = {"googlenet-deploy --help": ours("--help")}
    helps.update({f"googlenet-deploy {name} --help": ours(name, "--help") for name in COMMANDS})
    help_timings = interleaved({python: functools.partial(run, "-c", "pass"), **helps}, arguments.rounds)
    model, image = str(bvlc_onnx()), str(min(IMAGES.glob("*.jpg")))
    infer_timings = interleaved(
        {
            script: functools.partial(run, "-c", SCRIPT, model, image),
            "infer --backend onnxruntime": ours("infer", model, image, "--backend", "onnxruntime"),
            "infer": ours("infer", model, image),
        },
        arguments.rounds,
    )
    help_ratios, infer_ratios = report(help_timings, python), report(infer_timings, script)
    slow = [name for name in helps if help_timings[name].median > HELP_SECONDS]
    slow += [name for name, timing in infer_timings.items() if name != script and timing.median > INFER_SECONDS]
    say(f"over {HELP_SECONDS} s (--help) or {INFER_SECONDS} s (infer): {', '.join(slow) or 'none'}")
    if arguments.record:
        seconds = {name: timing.seconds for name, timing in {**help_timings, **infer_timings}.items()}
        record("startup", {"seconds": seconds, "ratio_to_python": help_ratios, "ratio_to_script": infer_ratios})
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
