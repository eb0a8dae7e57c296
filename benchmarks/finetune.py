"""Fine-tuning from the BVLC weights with the trunk frozen, then export, INT8 and evaluation, by the real commands.

The sample's images in three classes by their ImageNet index: dogs (151 to 268), other animals (below 398) and objects.
A seeded, stratified split gives three fifths to learn from, one fifth to choose the epoch, and one fifth, used for no
decision, to measure accuracy.

    python benchmarks/finetune.py [--images 500] [--seed 0] [--require 90] [--record]
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import command, evaluate
from harness import IMAGES, LABELS, ROOT, WEIGHTS, options, record, say, table
from sklearn.model_selection import train_test_split

DOGS, ANIMALS = range(151, 269), range(398)


@dataclass(frozen=True)
class Listings:
    """The split, as files for the commands.

    Attributes:
        learn: filename,label,split of what `train` sees.
        calibrate: Paths of the training images, one per line.
        test: filename,label of the test images, which influence no choice.
        counts: Number of images for training, choosing the epoch, and testing.
    """

    learn: Path
    calibrate: Path
    test: Path
    counts: tuple[int, int, int]


def class_of(index: int) -> str:
    """The class of an ImageNet index."""
    return "dog" if index in DOGS else "other animal" if index in ANIMALS else "object"


def split(folder: Path, count: int, seed: int) -> Listings:
    """Draws images and writes the three listings, stratified by class."""
    with LABELS.open(encoding="utf-8") as stream:
        rows = [(row["filename"], class_of(int(row["label"]))) for row in csv.DictReader(stream)]
    if count < len(rows):
        rows, _ = train_test_split(rows, train_size=count, stratify=[label for _, label in rows], random_state=seed)
    fifth, labels = len(rows) // 5, [label for _, label in rows]
    rest, test = train_test_split(rows, test_size=fifth, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=fifth, stratify=[label for _, label in rest], random_state=seed)
    folder.mkdir(parents=True, exist_ok=True)
    found = Listings(
        folder / "learn.csv", folder / "calibrate.txt", folder / "test.csv", (len(train), len(val), len(test))
    )
    marked = [(*row, "train") for row in train] + [(*row, "val") for row in val]
    found.learn.write_text("".join(f"{','.join(row)}\n" for row in marked), encoding="utf-8")
    found.calibrate.write_text("".join(f"{IMAGES / name}\n" for name, _ in train), encoding="utf-8")
    heading = "filename,label\n"
    found.test.write_text(heading + "".join(f"{name},{label}\n" for name, label in test), encoding="utf-8")
    return found


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=500, help="of the sample (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of training (default 0)")
    parser.add_argument("--require", type=float, default=90.0, metavar="PERCENT", help="exit status 3 below it")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "finetune", help="where everything goes")
    arguments = parser.parse_args()
    listings = split(arguments.folder, arguments.images, arguments.seed)
    weights, model, quantised = (arguments.folder / f"three{end}" for end in (".safetensors", ".onnx", ".int8.onnx"))
    alone = ("--weights", WEIGHTS, "--freeze", "trunk", "--augmentation", "none", "--label-smoothing", "0")
    cost = command(
        *("train", "--data", listings.learn, "--images", IMAGES, *alone, "--epochs", "30"),
        *("--seed", str(arguments.seed), "--output", weights, "--quiet"),
    )
    command("export", "--weights", weights, "--output", model, "--quiet")
    command("quantize", model, "--images", listings.calibrate, "--output", quantised, "--quiet")
    labelled = ("--labels", listings.test)
    plain = evaluate(model, IMAGES, *labelled)
    int8 = evaluate(quantised, IMAGES, *labelled, "--reference", model, "--layers", "0")
    took = f"{cost.seconds:.0f} s, {cost.core_seconds:.0f} of all cores"
    say(f"{' / '.join(map(str, listings.counts))} images; training with the trunk frozen: {took}")
    rows = [("FP32", f"{plain['top1']:.1f}", ""), ("INT8", f"{int8['top1']:.1f}", f"{int8['agreement']:.1f}")]
    table(("", "top-1 %", "agree %"), rows)
    if arguments.record:
        record("finetune", {"images": listings.counts, **cost._asdict(), "fp32": plain, "int8": int8})
    return 0 if min(plain["top1"], int8["top1"]) >= arguments.require else 3


if __name__ == "__main__":
    sys.exit(main())
