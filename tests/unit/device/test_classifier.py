"""Classifying from Python: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.device.classifier import Classifier
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError, BadModelError, InputError, UsageError

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (the extra runtime installs it)")

RED, GREEN, BLUE = (250, 10, 20), (0, 240, 20), (5, 30, 255)


@pytest.fixture
def classify(colour_model: Path) -> Iterator[Classifier]:
    with Classifier(colour_model, backend="onnxruntime") as classifier:
        yield classifier


def plane(colour: tuple[int, int, int]) -> Any:
    return np.full((10, 12, 3), colour, np.uint8)


def test_a_path_a_picture_and_an_array_are_one_image_each(classify: Classifier, colour_images: Path) -> None:
    path = colour_images / "green.png"
    answers = [classify(path), classify(str(path)), classify(Image.open(path)), classify(plane((0, 240, 20)))]
    assert [answer.best.name for answer in answers] == ["green"] * 4
    assert [answer.image for answer in answers] == [str(path), str(path), str(path), "image 0"]
    assert answers[0].best.index == 1
    assert answers[0].best.probability == pytest.approx(answers[3].best.probability)
    assert sum(entry.probability or 0 for entry in answers[0].classes) == pytest.approx(1.0)


def test_channels_of_an_array_are_said(classify: Classifier) -> None:
    assert classify(plane(RED)).best.name == "red"
    assert classify(plane(RED), channels="BGR").best.name == "blue"
    with pytest.raises(UsageError, match="channels is 'GBR'"):
        classify(plane(RED), channels="GBR")


def test_a_grey_picture_is_grey_in_every_channel(classify: Classifier) -> None:
    answer = classify(np.full((9, 9), 128, np.uint8))
    assert [entry.probability for entry in answer.classes] == pytest.approx([1 / 3] * 3)


def test_a_list_gives_a_list_and_an_iterator_an_iterator(classify: Classifier) -> None:
    pictures = [plane(colour) for colour in (RED, GREEN, BLUE)]
    assert [answer.best.name for answer in classify(pictures)] == ["red", "green", "blue"]
    assert classify([]) == []
    pulled = []

    def source() -> Iterator[Any]:
        for number, picture in enumerate(pictures):
            pulled.append(number)
            yield picture

    answers = classify(source())
    assert pulled == []
    assert next(answers).best.name == "red"
    assert pulled == [0]


def test_batches_do_not_change_answers(colour_model: Path) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 255, (11, 9, 3), np.uint8) for seed in range(7)]
    with Classifier(colour_model, backend="onnxruntime", batch=3) as batched, Classifier(colour_model) as single:
        for ours, theirs in zip(batched(pictures), map(single, pictures), strict=True):
            assert ours.best.index == theirs.best.index
            assert ours.best.score == pytest.approx(theirs.best.score, rel=1e-5)


def test_from_many_threads(classify: Classifier) -> None:
    found: list[str] = []

    def work() -> None:
        found.extend(classify(plane(colour)).best.name for colour in (RED, GREEN, BLUE))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["blue"] * 6 + ["green"] * 6 + ["red"] * 6


def test_a_stream_of_a_folder(classify: Classifier, colour_images: Path) -> None:
    (colour_images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    left_out: list[Any] = []
    answers = list(classify.stream(str(colour_images), on_skipped=left_out.append))
    assert [(Path(answer.image).stem, answer.best.name) for answer in answers] == [
        ("blue", "blue"), ("green", "green"), ("red", "red"),
    ]  # fmt: skip
    assert [Path(item.name).name for item in left_out] == ["broken.png"]


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), UsageError, "image 0 is float32"),
        (np.zeros((4, 4, 4), np.uint8), UsageError, r"\(4, 4, 4\)"),
        (3.5, UsageError, "cannot classify a float"),
        ("absent.png", BadImageError, r"absent\.png"),
    ],
)
def test_what_is_no_image_is_refused(classify: Classifier, image: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        classify(image)


def test_a_model_that_does_not_say_how_images_are_prepared(
    colour_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    path = colour_classifier(tmp_path / "other.onnx", metadata=False)
    with pytest.raises(UsageError, match=r"other\.onnx: the model does not state how its images are prepared"):
        Classifier(path)
    with pytest.raises(InputError, match="is not a preprocessing"):
        Classifier(path, preprocessing="imagenette")
    plain = Preprocessing(resize=8, crop=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    with Classifier(path, preprocessing=plain, class_names=["r", "g", "b"]) as classify:
        assert classify(plane(BLUE)).best.name == "b"
    with Classifier(path, preprocessing=plain, class_names=["r", "g"]) as classify, pytest.raises(BadModelError):
        classify(plane(BLUE))
