"""The evaluate command from the command line to the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.files import sha256_file


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """labels.csv beside images/: four images, one of them labelled wrongly."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["filename,label"]
    for name, colour, label in (
        ("a.png", (255, 0, 0), "red"),
        ("b.png", (0, 255, 0), "1"),
        ("c.png", (0, 0, 255), "blue"),
        ("d.png", (0, 0, 255), "red"),
    ):
        Image.new("RGB", (10, 10), colour).save(folder / name)
        rows.append(f"{name},{label}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


@pytest.fixture
def evaluate(colour_model: Path, labelled: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command on these images and gives what it printed."""

    def run(*arguments: object, model: Path = colour_model, status: int = 0, labels: bool = True) -> str:
        options = ["--labels", labelled / "labels.csv"] if labels else []
        command = ["evaluate", model, "--images", labelled / "images", *options, *arguments]
        assert main([str(word) for word in command]) == status
        return capsys.readouterr().out

    return run


def test_what_is_printed(evaluate: Callable[..., str], colour_model: Path) -> None:
    lines = evaluate("--backend", "onnxruntime").splitlines()
    assert lines[0].startswith(f"{colour_model}: 4 images, 0 skipped, ONNX Runtime")
    assert lines[1:] == [
        "  top-1            75.0 % (95 % interval 30.1 to 95.4, 3 of 4)",
        "  top-5            not measured: the model returns 3 classes per image",
    ]


def test_what_is_written(evaluate: Callable[..., str], colour_model: Path, labelled: Path, tmp_path: Path) -> None:
    (labelled / "images" / "e.png").write_bytes(b"")
    with (labelled / "labels.csv").open("a", encoding="utf-8") as stream:
        stream.write("\ne.png,red\n")
    evaluate("--json", tmp_path / "new" / "figures.json")
    values = json.loads((tmp_path / "new" / "figures.json").read_text(encoding="utf-8"))
    assert values["figures"] == {"top1": 75.0}
    assert values["images"] == 4
    assert values["intervals_95"]["top1"] == pytest.approx([30.06, 95.44], abs=0.01)
    assert values["skipped"] == [{"image": str(labelled / "images" / "e.png"), "reason": "is empty"}]
    assert values["model_sha256"] == sha256_file(colour_model)
    assert json.loads(values["preprocessing"])["crop"] == [8, 8]


def test_a_folder_per_class(evaluate: Callable[..., str], labelled: Path) -> None:
    for name, label in (("a", "red"), ("b", "green"), ("c", "blue"), ("d", "green")):
        (labelled / "images" / label).mkdir(exist_ok=True)
        (labelled / "images" / f"{name}.png").rename(labelled / "images" / label / f"{name}.png")
    assert "75.0 %" in evaluate(labels=False)


def test_wordnet_ids(
    evaluate: Callable[..., str], colour_classifier: Callable[..., Path], labelled: Path, tmp_path: Path
) -> None:
    model = colour_classifier(tmp_path / "m.onnx", ids=("n01", "n02", "n03"))
    (labelled / "labels.csv").write_text("a.png,n01\nb.png,n02\nc.png,n03\nd.png,n03\n", encoding="utf-8")
    assert "100.0 %" in evaluate(model=model)


def test_unlabelled_images_are_noted(evaluate: Callable[..., str], labelled: Path) -> None:
    (labelled / "labels.csv").write_text("a.png,red\n", encoding="utf-8")
    assert evaluate().startswith(f"note: left out: 3 images in {labelled / 'images'} without a label\n")


def test_a_limit(evaluate: Callable[..., str]) -> None:
    assert "3 of 3" in evaluate("--limit", 3)


@pytest.mark.parametrize("options", [{"batch": 3}, {"softmax": True}, {"uint8": True}], ids=str)
def test_models_of_every_form(
    options: dict[str, Any], evaluate: Callable[..., str], colour_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    assert "75.0 %" in evaluate(model=colour_classifier(tmp_path / "m.onnx", **options))


def test_a_reference(
    evaluate: Callable[..., str],
    colour_model: Path,
    colour_classifier: Callable[..., Path],
    tmp_path: Path,
) -> None:
    swapped = colour_classifier(tmp_path / "m.onnx", order=(0, 2, 1))
    figures = tmp_path / "figures.json"
    text = evaluate("--reference", colour_model, "--json", figures, model=swapped)
    assert "  agreement        25.0 % of the best classes are the reference's" in text
    values = json.loads(figures.read_text(encoding="utf-8"))["figures"]
    assert (values["top1"], values["reference_top1"], values["agreement"]) == (25.0, 75.0, 25.0)
    assert values["kl_divergence"] > 5
    evaluate("--reference", colour_model, "--json", figures)
    values = json.loads(figures.read_text(encoding="utf-8"))["figures"]
    assert (values["agreement"], values["kl_divergence"], values["sqnr"]) == (100.0, 0.0, None)


@pytest.mark.parametrize(
    ("gates", "status", "text"),
    [
        (["top1=75"], 0, ""),
        (["top1=75", "agreement=100", "sqnr=20"], 0, ""),
        (["top1=76"], 3, "error: top1 is 75.00, required was 76.0"),
        (["top1=10", "agreement=101"], 3, "error: agreement is 100.00, required was 101.0"),
        (["top5=1"], 3, "error: top5 was required to be 1.0, but the model does not return it"),
        (["speed=1"], 2, "--require speed: choose one of top1"),
    ],
)
def test_gates(
    gates: list[str],
    status: int,
    text: str,
    colour_model: Path,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["evaluate", str(colour_model), "--images", str(labelled / "images"), "--reference", str(colour_model)]
    command += ["--labels", str(labelled / "labels.csv"), "--json", str(tmp_path / "figures.json")]
    assert main([*command, *(word for gate in gates for word in ("--require", gate))]) == status
    assert text in capsys.readouterr().err
    assert (tmp_path / "figures.json").exists() == (status != 2)  # a gate does not undo the work


def test_gates_on_agreement_need_a_reference(
    evaluate: Callable[..., str], colour_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate("--require", "agreement=99", status=2)


def test_models_without_metadata_need_options(
    evaluate: Callable[..., str], colour_classifier: Callable[..., Path], labelled: Path, tmp_path: Path
) -> None:
    foreign = colour_classifier(tmp_path / "m.onnx", metadata=False)
    evaluate(model=foreign, status=2)
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\n", encoding="utf-8")
    assert "75.0 %" in evaluate("--scale", "0.004", "--class-names", names, model=foreign)


def figures_of(model: Path, images: Path, report: Path, *options: str) -> dict[str, float]:
    labels = images.parent / "labels.csv"
    command = ["evaluate", model, "--images", images, "--labels", labels, "--json", report, "--quiet", *options]
    assert main([str(word) for word in command]) == 0
    values: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))["figures"]
    return values


@pytest.mark.slow
def test_published_accuracy(bvlc_onnx: Path, sample_images: Path, tmp_path: Path) -> None:
    figures = figures_of(bvlc_onnx, sample_images, tmp_path / "figures.json")
    assert figures["top1"] == pytest.approx(74.4, abs=0.4)
    assert figures["top5"] == pytest.approx(92.2, abs=0.4)


def test_a_reference_needs_no_labels(
    evaluate: Callable[..., str], colour_model: Path, colour_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    swapped = colour_classifier(tmp_path / "m.onnx", order=(0, 2, 1))
    figures = tmp_path / "figures.json"
    text = evaluate("--reference", colour_model, "--json", figures, "--layers", 2, model=swapped, labels=False)
    assert "note: accuracy is not measured: no --labels" in text
    assert "agreement        25.0 %" in text
    assert "top-1 " not in text
    assert "inside, on 2 images" in text
    values = json.loads(figures.read_text(encoding="utf-8"))
    assert set(values["figures"]) == {"agreement", "kl_divergence", "sqnr"}


def test_folders_that_are_no_classes_are_no_labels(
    evaluate: Callable[..., str], colour_model: Path, labelled: Path
) -> None:
    (labelled / "images" / "holiday").mkdir()
    (labelled / "images" / "a.png").rename(labelled / "images" / "holiday" / "a.png")
    text = evaluate("--reference", colour_model, labels=False)
    assert "the folders (holiday, ...) are not classes of the model" in text
    assert "4 images" in text


def test_without_labels_and_reference_the_remedy_names_both(
    evaluate: Callable[..., str], capsys: pytest.CaptureFixture[str], labelled: Path, colour_model: Path
) -> None:
    assert main(["evaluate", str(colour_model), "--images", str(labelled / "images")]) == 1
    text = capsys.readouterr().err
    assert "--labels" in text
    assert "--reference" in text


def test_the_table_of_labels_is_explained(
    evaluate: Callable[..., str], labelled: Path, colour_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(colour_model), "--images", str(labelled / "images")]
    assert main([*command, "--labels", str(labelled / "labels.csv")]) == 0
    assert "labels.csv: 4 rows, cells separated by commas, UTF-8; the first row is a heading" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["deepstream", "jetson-inference", "opencv"])
def test_what_a_hosts_preprocessing_costs(
    host: str, evaluate: Callable[..., str], labelled: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    text = evaluate("--preprocessing-of", host, "--json", figures)
    assert "without antialiasing" in text
    assert ("stretched to 8 x 8" in text) == (host != "opencv")
    assert ("undo in the model" in text) == (host == "jetson-inference")
    values = json.loads(figures.read_text(encoding="utf-8"))["host"]
    assert values["name"] == host
    assert (values["figures"]["top1"], values["figures"]["agreement"]) == (75.0, 100.0), "the images are of one colour"
    assert json.loads(values["preprocessing"])["antialias"] is False


def test_a_hosts_stretching_is_measured(
    evaluate: Callable[..., str], labelled: Path, colour_model: Path, tmp_path: Path
) -> None:
    wide = Image.new("RGB", (40, 10), (0, 0, 255))
    wide.paste((255, 0, 0), (15, 0, 25, 10))  # the centre crop sees red alone, the whole frame is three quarters blue
    wide.save(labelled / "images" / "a.png")
    figures = tmp_path / "figures.json"
    evaluate("--preprocessing-of", "deepstream", "--json", figures)
    values = json.loads(figures.read_text(encoding="utf-8"))
    assert values["figures"]["top1"] == 75.0
    assert values["host"]["figures"]["top1"] == 50.0
    assert values["host"]["figures"]["agreement"] == 75.0
