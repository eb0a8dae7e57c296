"""Configurations: from TOML, from options, printed, and refused."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.deployment.commands import command_of, wrapped
from googlenet_deploy.deployment.config import DeployConfig, config_text, make_config, read_config
from googlenet_deploy.errors import InputError, UsageError

NEEDED = {"weights": "w", "images": "i", "target": "orin-nano", "output": "o"}


def test_what_is_printed_is_read_back(tmp_path: Path) -> None:
    config = DeployConfig(**NEEDED, labels='a "b" \\ c.csv', batch=(1, 2, 3), gates={"loss": 0.5}, benchmark=False)
    (tmp_path / "deploy.toml").write_text(config_text(config), encoding="utf-8")
    again = make_config(read_config(tmp_path / "deploy.toml"))
    assert again.to_dict() == {**config.to_dict(), "output": str(tmp_path / "o")}


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "deploy.toml").write_text('images = "photos"\nweights = "bvlc"\noutput = "/abs"\nlabels = "gone.csv"\n')
    values = read_config(tmp_path / "deploy.toml")
    assert values == {
        "images": str(tmp_path / "photos"),
        "weights": "bvlc",
        "output": "/abs",
        "labels": "gone.csv",
    }


def test_options_override_the_file_and_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.toml").write_text(
        'weights = "w"\nimages = "i"\ntarget = "nano"\noutput = "o"\nseed = 4\n\n[gates]\nagreement = 97\nsqnr = 20.5\n'
    )
    command = [
        "deploy",
        "--config",
        str(tmp_path / "d.toml"),
        "--target",
        "thor",
        "--require",
        "sqnr=28",
        "--print-config",
    ]
    assert main([*command, "--batch", "1,1,1", "--no-benchmark", "--compute-capabilities", "8.9"]) == 0
    text = capsys.readouterr().out
    for line in ('target = "thor"', "seed = 4", "agreement = 97.0", "sqnr = 28.0", "batch = [1, 1, 1]"):
        assert line in text.splitlines()
    assert "benchmark = false" in text
    assert main([*command, "--no-gates"]) == 0
    assert "agreement" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("target = ", "is not TOML"),
        ('surprise = "x"', "unknown entry 'surprise'"),
        ("weights = 3", "weights is not of the right kind"),
        ("seed = true", "seed is not of the right kind"),
        ('batch = ["a"]', "batch is not a list of int"),
        ("[gates]\nagreement = true", "gates.agreement is not a number"),
        ("gates = 3", "gates is not of the right kind"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(InputError, match=match):
        read_config(tmp_path / "d.toml")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "nothing.toml")
    (tmp_path / "d.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a text file"):
        read_config(tmp_path / "d.toml")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weights": ""}, "deploy needs weights"),
        ({"precision": "int4"}, "--precision is 'int4', must be one of fp32, fp16, int8"),
        ({"calibration_images": 0}, "--calibration-images must be at least 1"),
        ({"evaluation_images": -1}, "--evaluation-images must be at least 0"),
        ({"batch": (4, 1, 2)}, "batch is smallest"),
        ({"batch": (1, 2)}, "batch is smallest"),
        ({"gates": {"speed": 1.0}}, "unknown gate 'speed'"),
        ({"gates": {"loss": float("nan")}}, "gate loss cannot be nan"),
        ({"budget": {"loss": 1.0}}, "unknown budget 'loss'"),
        ({"budget": {"top1": -1.0}}, "budget top1 cannot be -1"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        DeployConfig(**{**NEEDED, **changes})  # type: ignore[arg-type]


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--weights", "w"]) == 2
    assert "pass --images, or images in the configuration" in capsys.readouterr().err


def test_batches_that_are_no_numbers_are_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--batch", "1,x,4"]) == 2
    assert "'1,x,4' is not a batch profile" in capsys.readouterr().err


def test_control_characters_have_no_place_in_a_file() -> None:
    with pytest.raises(UsageError, match="control characters"):
        config_text(DeployConfig(**{**NEEDED, "labels": "a\x07"}))


def test_the_command_line_says_what_differs_from_the_defaults() -> None:
    plain = DeployConfig(**{**NEEDED, "images": "my photos"})
    expected = "googlenet-deploy deploy --weights w --images 'my photos' --target orin-nano --precision int8 --output o"
    assert command_of(plain) == expected
    full = DeployConfig(**NEEDED, seed=3, batch=(1, 1, 2), benchmark=False, gates={"loss": 0.5})
    mixed = DeployConfig(**NEEDED, sensitivity=False, budget={"agreement": 98.5})
    assert command_of(mixed).endswith("--output o --no-sensitivity --budget agreement=98.5")
    assert command_of(full).endswith("--output o --seed 3 --batch 1,1,2 --no-benchmark --no-gates --require loss=0.5")
    assert command_of(DeployConfig(**NEEDED, gates={})).endswith("--no-gates")
    capable = DeployConfig(**NEEDED, compute_capabilities=("12.0", "8.9"))
    assert command_of(capable).endswith("--compute-capabilities 12.0,8.9")


def test_a_long_command_is_broken_ahead_of_options_and_stays_the_same_to_a_shell() -> None:
    config = DeployConfig(**{**NEEDED, "weights": "a folder/with --odd names.safetensors", "images": "i" * 60}, seed=3)
    lines = wrapped(command_of(config))
    assert len(lines) == 3
    assert all(line.endswith(" \\") for line in lines[:-1])
    printing = "\n".join(lines).replace("googlenet-deploy", "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", printing], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words == shlex.split(command_of(config))[1:]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("golden_images = 0", "golden_images must be at least 1, is 0"),
        ("calibration_images = -3", "calibration_images must be at least 1, is -3"),
        ('precision = "int9"', "precision is 'int9'"),
        ("batch = [4, 1, 16]", "batch is smallest, usual, largest"),
        ('refine = "equalize"', "cannot equalize"),
        ('weights = ""', "deploy needs weights"),
        ("[gates]\nspeed = 1", "unknown gate 'speed'"),
        ("[budget]\ntop1 = -1", "the budget top1 cannot be -1"),
        ("[gates]\ntop1 = nan", "the gate top1 cannot be nan"),
    ],
)
def test_a_value_out_of_range_is_an_error_of_its_file(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "orin.toml"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=r"orin\.toml: ") as caught:
        read_config(path)
    assert words in caught.value.message
