"""The ROS 2 node of docs/ros2.md, with fakes of ROS 2's modules and a real model."""

from __future__ import annotations

import re
import sys
from array import array
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from googlenet_deploy import Classifier

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


class FakeNode:
    def __init__(self, name: str) -> None:
        self.name, self.published, self.errors, self.handlers = name, [], [], {}

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message)))

    def create_subscription(self, kind: type, topic: str, handler: Any, quality: Any) -> None:
        self.handlers[topic] = (handler, quality)

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(error=lambda text, once: self.errors.append(text))


class FakeMessage(SimpleNamespace):
    def __init__(self, **values: Any) -> None:
        super().__init__(**{"results": [], **values})


@pytest.fixture
def node(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's longest block of Python defines."""
    fakes: dict[str, dict[str, Any]] = {
        "rclpy": {},
        "rclpy.executors": {"ExternalShutdownException": RuntimeError},
        "rclpy.node": {"Node": FakeNode},
        "rclpy.qos": {"QoSProfile": SimpleNamespace, "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort")},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": FakeMessage},
        "vision_msgs": {},
        "vision_msgs.msg": {"Classification": FakeMessage, "ObjectHypothesis": FakeMessage},
    }
    for name, members in fakes.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = (repository / "docs/ros2.md").read_text(encoding="utf-8")
    code = max(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), key=len)
    namespace: dict[str, Any] = {"__name__": "classifier_node"}
    exec(compile(code, "docs/ros2.md", "exec"), namespace)
    return namespace


def message(pixels: NDArray[np.uint8], encoding: str, padding: int) -> FakeMessage:
    """An image message as rclpy delivers it: rows of `step` bytes, the data an array of bytes."""
    height, width = pixels.shape[:2]
    rows = np.full((height, 3 * width + padding), 7, np.uint8)
    rows[:, : 3 * width] = pixels.reshape(height, -1)
    data = array("B", rows.tobytes())
    return FakeMessage(
        height=height, width=width, step=rows.shape[1], encoding=encoding, data=data, header=f"frame of {encoding}"
    )


@pytest.mark.parametrize(("encoding", "padding"), [("rgb8", 0), ("bgr8", 0), ("rgb8", 5), ("bgr8", 64)])
def test_it_publishes_the_classes_of_a_frame(
    node: dict[str, Any], colour_model: Path, encoding: str, padding: int
) -> None:
    with Classifier(colour_model, backend="onnxruntime") as classify:
        running = node["ClassifierNode"](classify)
        handler, quality = running.handlers["image"]
        assert (quality.depth, quality.reliability) == (1, "best effort")
        for name, colour in COLOURS.items():
            pixels = np.full((20, 31, 3), colour if encoding == "rgb8" else colour[::-1], np.uint8)
            handler(message(pixels, encoding, padding))
            topic, result = running.published[-1]
            assert (topic, result.header) == ("classes", f"frame of {encoding}")
            assert result.results[0].class_id == name
            assert sum(entry.score for entry in result.results) == pytest.approx(1, abs=1e-5)
    assert running.errors == []


def test_it_refuses_other_encodings(node: dict[str, Any]) -> None:
    running = node["ClassifierNode"](None)
    running.on_image(FakeMessage(encoding="yuv422"))
    assert running.published == []
    assert running.errors == ["encoding yuv422 is not supported: publish rgb8 or bgr8"]


def test_the_five_lines_are_valid(repository: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (repository / "docs/ros2.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line]) <= 5
