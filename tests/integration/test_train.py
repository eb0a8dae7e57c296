"""`googlenet-deploy train` from end to end, on textures drawn in the test."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from textures import write_textures

from googlenet_deploy.cli.main import main
from googlenet_deploy.model.checkpoint import load_checkpoint
from googlenet_deploy.training.resume_state import Outputs

SMALL = ["--width", "0.125", "--input-size", "32", "--augmentation", "light", "--batch-size", "16", "--workers", "1"]


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of forty images."""
    return write_textures(tmp_path_factory.mktemp("textures") / "data", ("columns", "rows", "squares"), 40)


@pytest.fixture(scope="module")
def trained(textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained on `textures`; its log lies beside it."""
    output = tmp_path_factory.mktemp("trained") / "textures.safetensors"
    assert train(textures, output, "--epochs", "12", "--log", str(output.with_suffix(".jsonl"))) == 0
    return output


@pytest.fixture(scope="module")
def unfinished(textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run on `textures` that was interrupted."""
    output = tmp_path_factory.mktemp("unfinished") / "m.safetensors"
    interrupted(signal.SIGTERM, "(saved)", textures, output, "--epochs", "100000")
    return output.with_suffix(".state.safetensors")


def train(data: Path, output: Path, *options: str) -> int:
    return main(["train", "--data", str(data), "--output", str(output), *SMALL, *options])


def interrupted(number: signal.Signals, line: str, data: Path, output: Path, *options: str) -> tuple[int, str, str]:
    """Runs the command in a group of its own, as a terminal does, and signals it; its status, stdout and stderr."""
    command = [sys.executable, "-m", "googlenet_deploy", "train", "--data", str(data), "--output", str(output)]
    with subprocess.Popen(
        [*command, *SMALL, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert any(line in said for said in process.stderr)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_textures_are_learnt_and_the_record_says_how(trained: Path, textures: Path) -> None:
    checkpoint = load_checkpoint(trained)
    record = checkpoint.training_record
    assert checkpoint.class_names == ("columns", "rows", "squares")
    assert checkpoint.preprocessing.crop == (32, 32)
    assert record["validation"]["top1_percent"] >= 90
    assert record["validation"]["images"] == 12
    assert record["data"]["train_images"] == 108
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["sha256"])
    assert record["options"]["seed"] == 0
    assert {"torch", "python", "googlenet_deploy"} <= set(record["versions"])


def test_the_log_has_a_line_per_epoch(trained: Path) -> None:
    lines = [json.loads(line) for line in trained.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", *["epoch"] * 12, "end"]
    assert load_checkpoint(trained.with_suffix(".last.safetensors")).training_record["epoch"] == 12
    assert not trained.with_suffix(".state.safetensors").exists()
    epochs = lines[1:-1]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    best = [line["epoch"] for line in epochs if line["best"]]
    record = load_checkpoint(trained).training_record
    assert best[-1] == lines[-1]["best_epoch"] == record["epoch"]
    assert max(line["validation_accuracy_percent"] for line in epochs) == record["validation"]["top1_percent"]


def test_equal_runs_give_equal_bytes_and_other_seeds_do_not(textures: Path, tmp_path: Path) -> None:
    outputs = []
    for number, seed in enumerate(("3", "3", "4")):
        output = tmp_path / f"{number}.safetensors"
        workers = str(number + 1)
        assert train(textures, output, "--epochs", "2", "--seed", seed, "--workers", workers, "--quiet") == 0
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_a_second_run_into_the_same_file_is_refused_and_nothing_is_mixed(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.safetensors"
    with Outputs(output).lock():
        assert train(textures, output, "--epochs", "1", "--quiet") == 1
        assert f"{output}: another run is training it" in capsys.readouterr().err.splitlines()[0]
        assert not output.exists()
        assert train(textures, tmp_path / "other.safetensors", "--epochs", "1", "--quiet") == 0
    assert train(textures, output, "--epochs", "1", "--quiet") == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{stem}{last}.safetensors" for stem in ("m", "other") for last in ("", ".last")}


def test_progress_goes_to_stderr_and_the_result_to_stdout(
    textures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(textures, tmp_path / "m.safetensors", "--epochs", "1") == 0
    out, err = capfd.readouterr()
    assert re.search(r"validation accuracy \d+\.\d %", out)
    assert re.search(r"epoch 1/1  loss \d.*images/s  0:00 left", err)
    assert "12 of 120 images are held out" in err
    assert "Warning" not in err


def test_fine_tuning_to_other_classes_with_the_trunk_frozen(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_textures(tmp_path / "two", ("rows", "squares"), 30, seed=1)
    output = tmp_path / "tuned.safetensors"
    command = ["train", "--data", str(data), "--output", str(output), "--weights", str(trained), "--freeze", "trunk"]
    assert main([*command, "--epochs", "6", "--lr", "0.05", "--augmentation", "none", "--batch-size", "16"]) == 0
    assert "classifier replaced: 2 classes" in capsys.readouterr().err
    old, new = load_checkpoint(trained).model.state_dict(), load_checkpoint(output).model.state_dict()
    changed = {
        name for name in new if not (old[name].shape == new[name].shape and bool((old[name] == new[name]).all()))
    }
    assert {name.partition(".")[0] for name in changed} == {"fc"}
    record = load_checkpoint(output).training_record
    assert record["validation"]["top1_percent"] >= 80
    assert len(record["weights_sha256"]) == 64


def test_a_run_that_diverges_leaves_the_last_good_checkpoint(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from googlenet_deploy.training import loop

    monkeypatch.setattr(loop, "learning_rate", lambda options, peak, epoch: 0.02 if epoch <= 1 else math.inf)
    output, log = tmp_path / "m.safetensors", tmp_path / "log.jsonl"
    assert train(textures, output, "--epochs", "3", "--log", str(log)) == 1
    err = capsys.readouterr().err
    assert "error: training diverged" in err
    assert "the loss in step 2 of epoch 2 is nan" in err
    assert f"{output} holds epoch 1" in err
    assert "state.safetensors holds epoch 1, from which --resume continues" in err
    assert load_checkpoint(output).training_record["epoch"] == 1
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "failed"


def test_a_run_that_diverges_at_once_writes_nothing(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.safetensors"
    assert train(textures, output, "--epochs", "1", "--architecture", "bvlc", "--lr", "1e30", "--warmup", "0") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_the_last_good_checkpoint(textures: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    status, _, err = interrupted(signal.SIGINT, "(saved)", textures, output, "--epochs", "100000")
    assert status == 130
    assert f"{output} holds epoch" in err
    assert "from which --resume continues" in err
    assert "Traceback" not in err
    assert load_checkpoint(output).training_record["epoch"] >= 1
    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "m.last.safetensors", "m.state.safetensors"}


@pytest.mark.parametrize("worker_type", ["threads", "processes"])
def test_a_run_that_was_terminated_goes_on_to_the_same_bytes(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], worker_type: str
) -> None:
    options = ("--epochs", "3", "--save-every", "2", "--log")
    whole, output = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    assert train(textures, whole, *options, str(tmp_path / "whole.csv"), "--quiet") == 0
    log = str(tmp_path / "m.csv")
    who = ("--worker-type", worker_type)
    status, out, err = interrupted(signal.SIGTERM, "epoch 1/3", textures, output, *options, log, *who)
    assert status == 0
    assert re.search(r"stopped: .*m.state.safetensors holds .*epoch", out)
    assert "Traceback" not in err
    capsys.readouterr()
    assert train(textures, output, *options, log, "--resume") == 0
    assert "going on after" in capsys.readouterr().err
    for suffix in (".safetensors", ".last.safetensors"):
        assert output.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()
    rows = [[row.split(",")[:6] for row in (tmp_path / f"{n}.csv").read_text().splitlines()] for n in ("m", "whole")]
    assert rows[0] == rows[1]
    assert train(textures, output, *options, log, "--resume") == 0
    assert "this run is complete" in capsys.readouterr().out


def children_of(parent: int) -> list[int]:
    """Process numbers, by what /proc says."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # has ended meanwhile
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="processes read images on Linux alone")
def test_a_reading_process_that_dies_ends_the_run_with_words(textures: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "googlenet_deploy", "train", "--data", str(textures), "--output", str(output)]
    options = [*SMALL, "--epochs", "100000", "--worker-type", "processes", "--workers", "2"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stderr is not None
        assert any("(saved)" in line for line in process.stderr)
        readers = children_of(process.pid)
        assert len(readers) == 2
        os.kill(readers[0], signal.SIGKILL)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: a process that reads images has died" in err
    assert "continue with --resume" in err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{number}").exists() for number in readers)
    assert load_checkpoint(output).training_record["epoch"] >= 1


def test_resuming_without_a_state_begins_and_says_so(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(textures, tmp_path / "m.safetensors", "--epochs", "1", "--resume") == 0
    assert "to resume from: a new run begins" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (("columns", "rows"), (), "is of a run with 3 classes, the data has 2"),
        (
            ("columns", "rows", "squares"),
            ("--architecture", "bvlc"),
            "of a torchvision GoogLeNet, this one trains bvlc",
        ),
        (("columns", "rows", "squares"), ("--epochs", "9"), "is of a run with epochs 100000, this has 9"),
    ],
)
def test_a_state_of_another_run_is_refused(
    textures: Path,
    unfinished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classes: tuple[str, ...],
    options: tuple[str, ...],
    message: str,
) -> None:
    output = tmp_path / "m.safetensors"
    state = shutil.copy(unfinished, output.with_suffix(".state.safetensors"))
    data = textures if len(classes) == 3 else write_textures(tmp_path / "other", classes, 40)
    assert train(data, output, "--epochs", "100000", *options, "--resume") == 1
    err = capsys.readouterr().err
    assert f"error: {state}: is of a run" in err
    assert message in err


def test_a_new_run_says_that_it_replaces_an_unfinished_one(
    textures: Path, unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.safetensors"
    shutil.copy(unfinished, output.with_suffix(".state.safetensors"))
    assert train(textures, output, "--epochs", "1") == 0
    assert "is of an unfinished run; this new one replaces it" in capsys.readouterr().err


def test_a_disk_that_fills_up_ends_the_run_in_words_and_leaves_what_was_there(textures: Path, tmp_path: Path) -> None:
    """The limit on the size of files makes a real write fail, in the middle of the state's tensors."""
    output = tmp_path / "m.safetensors"
    output.write_bytes(b"what was there")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from googlenet_deploy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", "--data", str(textures), "--output", str(output)]
    result = subprocess.run([*command, *SMALL, "--epochs", "1"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"error: {output}: cannot be written" in result.stderr
    assert "Traceback" not in result.stderr
    assert output.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [output]


def test_the_result_as_json_has_the_confusion_matrix(textures: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "m.safetensors", tmp_path / "r.json"
    assert train(textures, output, "--epochs", "1", "--json", str(report), "--quiet") == 0
    values = json.loads(report.read_text())
    assert [entry["name"] for entry in values["classes"]] == ["columns", "rows", "squares"]
    assert sum(map(sum, values["confusion"])) == 12
    assert values["record"]["options"]["epochs"] == 1


def test_images_listed_in_a_csv(textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(textures.rglob("*.png"))
    rows = [f"{path.relative_to(textures)},{path.parent.name}" for path in files]
    (tmp_path / "t.csv").write_text("\n".join(["filename,label", *rows]))
    output = tmp_path / "m.safetensors"
    assert train(tmp_path / "t.csv", output, "--images", str(textures), "--epochs", "1") == 0
    assert "no validation rows" in capsys.readouterr().err
    assert load_checkpoint(output).class_names == ("columns", "rows", "squares")


def test_a_frozen_trunk_without_augmentation_is_computed_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And gives what computing it anew in every step gives; a cache of 0 MB does that."""
    data = write_textures(tmp_path / "two", ("rows", "squares"), 30, seed=1)
    options = [
        "--weights",
        str(trained),
        "--freeze",
        "trunk",
        "--epochs",
        "3",
        "--lr",
        "0.05",
        "--augmentation",
        "none",
    ]
    results = []
    for name, cache in (("once", "1024"), ("anew", "0")):
        output = tmp_path / f"{name}.safetensors"
        command = ["train", "--data", str(data), "--output", str(output), *options, "--cache", cache]
        assert main([*command, "--batch-size", "16"]) == 0
        assert ("computed once" in capsys.readouterr().err) == (name == "once")
        results.append(load_checkpoint(output.with_suffix(".last.safetensors")).model.state_dict())
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-4, atol=1e-5)


def test_damaged_images_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_textures(tmp_path / "d", ("rows", "squares"), 12)
    whole = (data / "rows" / "003.png").read_bytes()
    (data / "rows" / "003.png").write_bytes(whole[:200])
    (data / "squares" / "004.png").write_bytes(b"")
    output = tmp_path / "m.safetensors"
    assert train(data, output, "--epochs", "1") == 0
    out, err = capsys.readouterr()
    assert "skipped: rows/003.png: is damaged" in err
    assert "skipped: squares/004.png: is empty" in err
    assert "2 images could not be used" in out
    assert load_checkpoint(output).training_record["data"]["skipped"] == ["rows/003.png", "squares/004.png"]


def break_images(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda d: break_images(d / "rows"), "class rows has no usable images in training"),
        (lambda d: (d / "empty").mkdir(), "class empty has no usable images"),
        (lambda d: [p.unlink() for p in sorted((d / "rows").iterdir())[1:]], "class rows has a single image"),
        (lambda d: [p.unlink() for p in (d / "rows").iterdir()], "class rows has no usable images"),
    ],
    ids=["all damaged", "empty class", "one image", "emptied class"],
)
def test_data_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], object], message: str
) -> None:
    data = write_textures(tmp_path / "d", ("rows", "squares"), 4)
    prepare(data)
    output = tmp_path / "m.safetensors"
    assert train(data, output, "--epochs", "1") == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_other_classes_in_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_textures(tmp_path / "d" / "train", ("rows", "squares"), 4)
    write_textures(tmp_path / "d" / "val", ("columns", "rows", "squares"), 2)
    assert train(tmp_path / "d", tmp_path / "m.safetensors") == 1
    assert "val: its classes are not those of the training images: it has columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--architecture", "resnet"], "unknown architecture 'resnet'"),
        (["--freeze", "trunk"], "needs --weights"),
        (["--output", "model.onnx"], "ends in .safetensors"),
        (["--input-size", "16"], "--input-size must be at least 32"),
    ],
)
def test_wrong_usage(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert train(textures, tmp_path / "m.safetensors", *options) == 2
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written(textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert train(textures, blocked / "m.safetensors", "--epochs", "1") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_damaged_weights(textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b'\x08\x00\x00\x00\x00\x00\x00\x00{"a": 1')
    data = ["train", "--data", str(textures), "--output", str(tmp_path / "m.safetensors")]
    assert main([*data, "--weights", str(weights)]) == 1
    assert str(weights) in capsys.readouterr().err


def write_shard(path: Path, images: list[Path], names: tuple[str, ...]) -> None:
    with tarfile.open(path, "w") as archive:
        for image in images:
            key = f"{image.parent.name}-{image.stem}"
            for suffix, data in (("png", image.read_bytes()), ("cls", str(names.index(image.parent.name)).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_a_stream_of_shards(textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("columns", "rows", "squares")
    files = sorted(textures.rglob("*.png"))
    shards = tmp_path / "shards"
    shards.mkdir()
    damaged = tmp_path / "rows" / "damaged.png"
    damaged.parent.mkdir()
    damaged.write_bytes(files[0].read_bytes()[:100])
    for part in range(3):
        extra = [damaged] if part == 0 else []
        write_shard(shards / f"train-{part}.tar", files[part::4] + extra, names)
    write_shard(shards / "val-0.tar", files[3::4], names)
    output = tmp_path / "m.safetensors"
    assert train(shards, output, "--epochs", "1") == 1
    assert "classes.txt: is missing" in capsys.readouterr().err
    (shards / "classes.txt").write_text("\n".join(names))
    assert train(shards, output, "--epochs", "12") == 0
    out, err = capsys.readouterr()
    assert "3 classes, 91 training images" in err
    assert err.count("skipped: train-0.tar/rows-damaged") == 1
    assert "1 image could not be used" in out
    checkpoint = load_checkpoint(output)
    assert checkpoint.class_names == names
    assert checkpoint.training_record["validation"]["images"] == 30
    assert checkpoint.training_record["validation"]["top1_percent"] >= 70
    assert train(Path(f"{shards}/train-{{0..2}}.tar"), output, "--epochs", "1") == 1
    assert "pass --validation with shards to measure" in capsys.readouterr().err


def test_a_run_stopped_while_it_measured_goes_on_and_its_report_has_every_epoch(tmp_path: Path) -> None:
    """One step per epoch, so that the state is of an epoch whose steps are all done."""
    data, output, page = write_textures(tmp_path / "d", ("columns", "rows"), 8), tmp_path / "m.safetensors", "r.html"
    options = ("--epochs", "4", "--batch-size", "8", "--report", str(tmp_path / page))
    interrupted(signal.SIGTERM, "epoch 2/4", data, output, *options)
    assert output.with_suffix(".state.safetensors").exists()
    assert train(data, output, *options, "--resume", "--quiet") == 0
    text = (tmp_path / page).read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row">(\d+)</th>', text) == ["1", "2", "3", "4"]
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_of_another_kind_is_refused(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(textures, tmp_path / "m.safetensors", "--report", "curves.pdf") != 0
    assert "--report curves.pdf: the page's name ends in .html" in capsys.readouterr().err
