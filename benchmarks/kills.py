"""Kills `bundle` and `deploy` at random moments, repeats the command, and compares the result with an undisturbed run.

    python benchmarks/kills.py [--kinds bundle deploy] [--kills 30] [--record]

A killed run may leave the old result or none, never a part of one: after each kill the output is absent or verifies.
`deploy` resumes where the killed run stopped; where a run ends before its kill, the next one starts from nothing. At
the end one run is left alone, and its bundle must have the bytes of the undisturbed one. Exit status 1 where not.

`bundle` packs BVLC's model. `deploy` takes a small network and drawn images, so that a run lasts seconds; --weights and
--images choose others.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import IMAGES, ROOT, bvlc_onnx, record, say

TOOL = [sys.executable, "-m", "googlenet_deploy"]
KINDS = ("bundle", "deploy")
COUNT = 20  # drawn images


@dataclass(frozen=True)
class Outcome:
    """What became of the kills of one command.

    Attributes:
        kills: Number of killed runs.
        late: Runs that ended before they were to be killed; not among `kills`.
        seconds: Duration of an undisturbed run.
        damaged: Kills after which the output was neither absent nor whole, with the reason.
        same: Whether the last run's bundle has the bytes of the undisturbed run's.
        left: Temporary files of killed runs that are still there at the end.
    """

    kills: int
    late: int
    seconds: float
    damaged: tuple[str, ...]
    same: bool
    left: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no kill did harm."""
        return self.same and not self.damaged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--kills", "--rounds", type=int, default=30, help="of each command (default %(default)s)")
    parser.add_argument("--weights", help="deploy: other weights, such as bvlc, with --images")
    parser.add_argument("--images", help="a folder of images (default: of the sample, or drawn ones for deploy)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "kills")
    parser.add_argument("--seed", type=int, default=2014)
    parser.add_argument("--record", action="store_true", help="write the figures to benchmarks/results/")
    arguments = parser.parse_args()
    outcomes = {}
    for kind in arguments.kinds:
        folder = arguments.work / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = bundle_command(arguments) if kind == "bundle" else deploy_command(arguments, folder)
        outcomes[kind] = kill_and_compare(kind, command, folder, arguments.kills, arguments.seed)
        describe(kind, outcomes[kind])
    if arguments.record:
        record("kills", {"seed": arguments.seed, **{kind: asdict(outcome) for kind, outcome in outcomes.items()}})
    return 0 if all(outcome.holds for outcome in outcomes.values()) else 1


def bundle_command(arguments: argparse.Namespace) -> list[str]:
    images = arguments.images or str(IMAGES)
    target = ["--kind", "jetson", "--target", "orin-nano", "--fp32", str(bvlc_onnx())]
    return [*TOOL, "bundle", *target, "--images", images]


def deploy_command(arguments: argparse.Namespace, folder: Path) -> list[str]:
    weights, images = arguments.weights, arguments.images
    if weights is None:
        weights, images = draw_network(folder / "weights.safetensors"), images or draw_images(folder / "images")
    options = ["--weights", weights, "--images", images or str(IMAGES), "--target", "orin-nano"]
    return [*TOOL, "deploy", *options, "--no-gates", "--no-benchmark", "--quiet"]


def draw_network(path: Path) -> str:
    """Writes a seeded GoogLeNet, an eighth as wide, for 64x64 images and ten classes."""
    import torch

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.model.architecture import get_architecture
    from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet

    torch.manual_seed(5)
    net = GoogLeNet(get_architecture("torchvision"), 10, width=0.125).eval()
    with torch.inference_mode():
        net.fc.weight.data *= 10 / net(torch.randn(4, 3, 64, 64)).abs().max()
    spec = Preprocessing(resize=72, crop=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_checkpoint(path, Checkpoint(net, net.architecture, spec, tuple(f"class {index}" for index in range(10))))
    return str(path)


def draw_images(folder: Path) -> str:
    from PIL import Image

    from googlenet_deploy.export.samples import smooth_pictures

    folder.mkdir()
    for index, pixels in enumerate(smooth_pictures(COUNT, (80, 90), 3, seed=2)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return str(folder)


def kill_and_compare(kind: str, command: list[str], folder: Path, kills: int, seed: int) -> Outcome:
    """Kills the command `kills` times at moments drawn from the duration of an undisturbed run."""
    whole, killed = (folder / name / ("model.zip" if kind == "bundle" else "out") for name in ("whole", "killed"))
    start = time.monotonic()
    run(command, whole)
    seconds = time.monotonic() - start
    chance, done, late, damaged = random.Random(seed), 0, 0, list[str]()
    while done < kills:
        moment = chance.uniform(0.02, 1.0) * seconds
        if finished_before(moment, command, killed):
            late += 1
            shutil.rmtree(killed.parent)
            continue
        done += 1
        problem = damage(bundle_of(killed))
        damaged += [f"kill {done}, after {moment:.2f} s: {problem}"] if problem else []
    run(command, killed)
    same = digest(bundle_of(killed)) == digest(bundle_of(whole))
    found = (path.relative_to(killed.parent).as_posix() for path in killed.parent.rglob(".*"))
    left = tuple(sorted(name for name in found if Path(name).name != ".lock"))
    return Outcome(done, late, round(seconds, 2), tuple(damaged), same, left)


def run(command: list[str], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "--output", str(output)], check=True, stdout=subprocess.DEVNULL)


def finished_before(seconds: float, command: list[str], output: Path) -> bool:
    """Runs a command and kills it and its child processes after some seconds; True if it ended before.

    Raises:
        RuntimeError: It failed.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    words = [*command, "--output", str(output)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return False
        raise
    if process.returncode:
        raise RuntimeError(errors.decode(errors="replace"))
    return True


def bundle_of(output: Path) -> Path:
    return output if output.suffix == ".zip" else output / "bundle.zip"


def damage(bundle: Path) -> str:
    """What is wrong with a bundle left by a killed run; empty if it is whole or absent."""
    if not bundle.exists():
        return ""
    result = subprocess.run([*TOOL, "bundle", "--verify", str(bundle)], capture_output=True, text=True, check=False)
    return result.stderr.strip() if result.returncode else ""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(kind: str, outcome: Outcome) -> None:
    same = "the bytes of an undisturbed run" if outcome.same else "OTHER BYTES THAN AN UNDISTURBED RUN"
    say(f"{kind}: a run lasts {outcome.seconds:.1f} s; {outcome.kills} were killed, {outcome.late} ended before that")
    say(f"  the command again: {same}; {len(outcome.left)} temporary files of killed runs are left")
    for problem in outcome.damaged:
        say(f"  DAMAGED: {problem}")


if __name__ == "__main__":
    sys.exit(main())
