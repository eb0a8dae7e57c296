"""Absolute paths of the workstation stay out of what is passed on; everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.deployment.machine_paths import without_machine_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{images}/cats/01.jpg is damaged", "photos/cats/01.jpg is damaged"),
        ("{images}", "photos"),
        ("deploy --images '{images}' --output out", "deploy --images 'photos' --output out"),
        ("{images}-more/1.jpg", "1.jpg"),  # another folder, which merely begins alike
        ("see /usr/lib/python3/dist-packages/x.py: gone", "see x.py: gone"),
        ("/tmp/a/b.onnx, /tmp/c/d.onnx", "b.onnx, d.onnx"),
        ("(/tmp/a/b.onnx)", "(b.onnx)"),
        ("--weights=/tmp/a/b.onnx", "--weights=b.onnx"),
    ],
)
def test_paths_are_shortened(text: str, expected: str, tmp_path: Path) -> None:
    images = tmp_path / "photos"
    assert without_machine_paths(text.format(images=images), [images]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "/inception_3a/conv/Conv",  # a layer: there is no such folder
        "inception_3a/1x1",
        "photos/cats/01.jpg",
        "ms/image, 5/6",
        "https://example.org/usr/lib/x",
        "data:image/jpeg;base64,/usr/lib/aaaa",
        "unzip bundle.zip -d googlenet && ./build.sh",
        "/",
        "/usr",
    ],
)
def test_what_is_no_path_of_this_machine_stays(text: str, tmp_path: Path) -> None:
    assert without_machine_paths(text, [tmp_path / "photos"]) == text


def test_all_of_a_tree_is_covered(tmp_path: Path) -> None:
    inside = f"{tmp_path}/run/model.onnx"
    value = {inside: [inside, {"a": inside, "b": 3, "c": None}]}
    name = f"{tmp_path.name}/run/model.onnx"
    assert without_machine_paths(value, [tmp_path]) == {name: [name, {"a": name, "b": 3, "c": None}]}
