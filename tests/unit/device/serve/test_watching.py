"""What a server watches: frames of a source, uncertain images, drift, energy, and the figures of all of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock
from PIL import Image

from googlenet_deploy.calibration.table import FORMAT, FORMAT_VERSION, load_table
from googlenet_deploy.device.power.meter import Limits, NotMeasured, Rail
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.serve import drift, live
from googlenet_deploy.device.serve.capture import LowConfidenceFolder, Pace
from googlenet_deploy.device.serve.energy import EnergyCounter
from googlenet_deploy.device.serve.metrics import MOST_SAMPLES, Metrics, Window, metric, quantile
from googlenet_deploy.device.serve.options import ServeOptions, parse_address
from googlenet_deploy.device.stream import inputs
from googlenet_deploy.errors import BadTableError, InputError, OutputError, UsageError

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (the extra runtime installs it)")

RED, GREY = (250, 20, 10), (128, 128, 128)
METHODS = ("max", "percentile", "entropy", "mse", "auto")


class Camera:
    """Frames of one colour without an end, or until it breaks."""

    live, frames, rate, frames_before, notes = True, None, None, 0, ()

    def __init__(self, colour: tuple[int, int, int], breaks_after: int | None) -> None:
        self.name, self.colour, self.breaks_after = "camera:0", colour, breaks_after

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while self.breaks_after is None or number < self.breaks_after:
            yield inputs.ImageSource(f"camera:0#{number}", pixels=np.full((80, 120, 3), self.colour, np.uint8))
            number += 1
            time.sleep(0.005)
        raise InputError(self.name, "gave no more frames")


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(colour: tuple[int, int, int] = RED, breaks_after: int | None = None) -> None:
        monkeypatch.setattr(inputs, "_video", lambda name: Camera(colour, breaks_after))

    return use


def events(port: int, count: int) -> list[dict[str, Any]]:
    """The first events of the live page."""
    found: list[dict[str, Any]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET /stream/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader = sock.makefile("rb")
        head = b"".join(iter(reader.readline, b"\r\n"))
        assert b"Content-Type: text/event-stream" in head
        assert b"Content-Length" not in head
        while len(found) < count:
            line = reader.readline()
            assert line
            if line.startswith(b"data: "):
                found.append(json.loads(line[len(b"data: ") :]))
    return found


def test_frames_of_a_camera_with_their_classes(
    colour_model: Path, serve: Callable[..., Any], camera: Callable[..., None], picture: Callable[..., bytes]
) -> None:
    camera()
    with serve(colour_model, "camera:0") as client:
        rows = events(client.port, 3)
        for row in rows:
            assert row["classes"][0]["name"] == "red"
            frame = Image.open(io.BytesIO(base64.b64decode(row["frame"])))
            assert frame.size == (120, 80)
            assert np.abs(np.asarray(frame, np.int16) - RED).max() < 8
            assert row["latency_ms"] > 0
        numbers = [int(row["image"].rpartition("#")[2]) for row in rows]
        assert numbers == sorted(set(numbers))
        assert client.ask("POST", "/classify", picture((0, 240, 20)))[0] == 200
        assert client.metric('googlenet_deploy_images_total{source="stream"}') >= 3
        assert client.metric('googlenet_deploy_images_total{source="http"}') == 1


def test_a_camera_that_breaks_shows_and_requests_are_still_answered(
    colour_model: Path, serve: Callable[..., Any], camera: Callable[..., None], picture: Callable[..., bytes]
) -> None:
    camera(breaks_after=2)
    with serve(colour_model, "camera:0") as client:
        deadline = time.monotonic() + 10
        while client.ask("GET", "/healthz")[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert json.loads(client.ask("GET", "/healthz")[2])["problem"] == "camera:0: gave no more frames"
        assert events(client.port, 1) == [{"problem": "camera:0: gave no more frames"}]
        assert client.ask("POST", "/classify", picture(RED))[0] == 200


def test_viewers_are_limited_and_their_places_come_back(
    colour_model: Path, serve: Callable[..., Any], camera: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera()
    monkeypatch.setattr(live, "MOST_VIEWERS", 2)
    ask = b"GET /stream/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve(colour_model, "camera:0") as client:
        held = [socket.create_connection(("127.0.0.1", client.port), timeout=5) for _ in range(2)]
        for sock in held:
            sock.sendall(ask)
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert client.raw(ask).startswith(b"HTTP/1.1 503")
        for sock in held:
            sock.close()
        deadline = time.monotonic() + 10
        for _ in range(4):  # four in turn where two at once are allowed
            while True:
                try:
                    events(client.port, 1)
                    break
                except AssertionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)


def test_uncertain_frames_are_kept_one_per_second(
    colour_model: Path, serve: Callable[..., Any], camera: Callable[..., None], tmp_path: Path
) -> None:
    camera(GREY)
    with serve(colour_model, "camera:0", capture_low_confidence=str(tmp_path / "unsure")) as client:
        deadline = time.monotonic() + 10
        while client.metric('googlenet_deploy_images_total{source="stream"}') < 20:
            assert time.monotonic() < deadline
    kept = list((tmp_path / "unsure").iterdir())
    assert len(kept) == 1  # the frames are equal, so later ones are the same image
    assert kept[0].name.startswith("0.33")
    assert np.abs(np.asarray(Image.open(kept[0]), np.int16) - 128).max() < 3


def test_uncertain_images_are_kept_as_they_came(
    colour_model: Path, serve: Callable[..., Any], tmp_path: Path, picture: Callable[..., bytes]
) -> None:
    folder = tmp_path / "unsure"
    with serve(colour_model, capture_low_confidence=str(folder)) as client:
        for colour in (RED, GREY, GREY):
            assert client.ask("POST", "/classify", picture(colour))[0] == 200
        assert client.metric("googlenet_deploy_captured_images") == 1
        assert client.metric("googlenet_deploy_low_confidence_images_total") == 2
    digest = hashlib.sha256(picture(GREY)).hexdigest()[:16]
    (kept,) = folder.iterdir()
    assert kept.name == f"0.3333-class0-{digest}.png"
    assert kept.read_bytes() == picture(GREY)


def test_the_least_certain_images_stay_where_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not an image of ours")
    lines: list[str] = []
    folder = LowConfidenceFolder(str(tmp_path), 3, 1.0, lines.append)
    for confidence in (0.4, 0.2, 0.3):
        assert folder.keep(b"%f" % confidence, ".jpg", confidence, 7)
    assert not folder.keep(b"0.45", ".jpg", 0.45, 7)
    assert not folder.keep(b"%f" % 0.2, ".jpg", 0.2, 7)  # known
    assert folder.keep(b"0.1", ".jpg", 0.1, 7)
    names = sorted(path.name[:6] for path in tmp_path.glob("*.jpg"))
    assert names == ["0.1000", "0.2000", "0.3000"]
    again = LowConfidenceFolder(str(tmp_path), 3, 1.0, lines.append)
    assert not again.keep(b"0.35", ".jpg", 0.35, 7)
    assert (tmp_path / "mine.txt").exists()
    assert not lines


def test_bytes_are_limited_too(tmp_path: Path) -> None:
    folder = LowConfidenceFolder(str(tmp_path), 100, 1000 / 2**20, lambda _line: None)
    assert not folder.keep(b"x" * 1001, ".jpg", 0.1, 0)
    assert folder.keep(b"a" * 600, ".jpg", 0.4, 0)
    assert folder.keep(b"b" * 300, ".jpg", 0.3, 0)
    assert folder.keep(b"c" * 500, ".jpg", 0.2, 0)  # in the place of the first
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [300, 500]
    assert not folder.keep(b"d" * 900, ".jpg", 0.25, 0)  # 0.2 stays, so there is no room
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [300, 500]


def test_a_folder_that_cannot_be_written_is_reported_once(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = LowConfidenceFolder(str(tmp_path / "gone"), 9, 1.0, lines.append)
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_text("a file now")
    assert not folder.keep(b"1", ".jpg", 0.1, 0)
    assert not folder.keep(b"2", ".jpg", 0.1, 0)
    assert len(lines) == 1
    with pytest.raises(OutputError, match="cannot be used"):
        LowConfidenceFolder(str(tmp_path / "gone"), 9, 1.0, lines.append)


def write_table(path: Path, model: Path, amax: dict[str, float], saturated: float = 0.25, **changes: Any) -> Path:
    """A table as `calibrate` writes it."""
    tensors = [
        {
            "members": [name],
            "minimum": 0.0,
            "maximum": limit,
            "amax": dict.fromkeys(METHODS, limit),
            "chosen": "max",
            "errors": {},
            "saturated": dict.fromkeys(METHODS, saturated),
            "zero": False,
        }
        for name, limit in amax.items()
    ]
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    spec = {"resize": 8, "crop": [8, 8], "mean": [0.0] * 3, "std": [1.0] * 3}
    head = {"format": FORMAT, "version": FORMAT_VERSION, "tool_version": "", "model": {}, "preprocessing": spec}
    images = {"count": 3, "folds": 1, "skipped": 0, "sha256": "", "contents": []}
    content = {**head, "model_sha256": digest, "images": images, "method": "auto", "options": {}, "tensors": tensors}
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_activations_beyond_the_calibrated_range(
    colour_model: Path, serve: Callable[..., Any], tmp_path: Path, picture: Callable[..., bytes]
) -> None:
    # Of a red image a third of the input (0.98, 0.08, 0.04) and of "pooled" is beyond 0.5; no logit is beyond 20.
    table = write_table(tmp_path / "t.json", colour_model, {"x": 0.5, "pooled": 0.5, "logits": 20.0, "absent": 1.0})
    assert load_table(table).amax("pooled") == 0.5
    with serve(colour_model, calibration_table=str(table), drift_every=2) as client:
        for _ in range(3):
            assert client.ask("POST", "/classify", picture(RED))[0] == 200
        deadline = time.monotonic() + 10
        while client.metric("googlenet_deploy_drift_images_total") < 2:
            assert time.monotonic() < deadline
        x, pooled, logits = 3 * 8 * 8, 3, 3
        share = (x / 3 + pooled / 3) / (x + pooled + logits)
        assert client.metric("googlenet_deploy_out_of_range_share") == pytest.approx(share)
        assert client.metric("googlenet_deploy_out_of_range_share_calibration") == pytest.approx(0.25)
        assert client.metric('googlenet_deploy_tensor_out_of_range_share{tensor="pooled"}') == pytest.approx(1 / 3)
        assert client.metric('googlenet_deploy_tensor_out_of_range_share{tensor="logits"}') == 0


def test_a_table_of_another_model_is_refused(
    colour_model: Path, colour_classifier: Callable[..., Path], serve: Callable[..., Any], tmp_path: Path
) -> None:
    other = colour_classifier(tmp_path / "other.onnx", order=(2, 1, 0))
    for path, why in (
        (write_table(tmp_path / "a.json", other, {"x": 1.0}), "was made from another model"),
        (write_table(tmp_path / "b.json", colour_model, {"y": 1.0}), "names no tensor"),
        (write_table(tmp_path / "c.json", colour_model, {"x": 1.0}, version=9), "another format version"),
        (write_table(tmp_path / "d.json", colour_model, {"x": 1.0}, tensors=[{}]), "is a damaged calibration table"),
        (write_table(tmp_path / "e.json", colour_model, {"x": 1.0}, format="table"), "is not a calibration table"),
        (tmp_path / "none.json", "cannot be read"),
        (other, "is not a calibration table"),
    ):
        with pytest.raises(BadTableError, match=why), serve(colour_model, calibration_table=str(path)):
            pass


def test_the_format_is_the_one_that_calibrate_writes() -> None:
    assert (drift.TABLE_FORMAT, drift.TABLE_VERSION) == (FORMAT, FORMAT_VERSION)


def test_values_beyond_a_range_are_counted() -> None:
    values = np.array([[-3.0, 2.0, 2.5], [np.nan, np.inf, 0.0]], np.float32)
    assert drift.beyond(values, 2.0) == (4, 6)
    assert drift.beyond(np.zeros((0,), np.float32), 1.0) == (0, 0)


class Watts:
    """A meter of 10 W."""

    name, covers, counts_energy, period, lag, paced, source = "fake", "module", False, 0.005, 0.0, False, "none"
    rails = (Rail("VDD_IN", True, Limits(None, 0.0, 0.0)),)

    def __init__(self) -> None:
        self.notes: list[str] = []

    def read(self) -> dict[str, float]:
        return {"VDD_IN": 10.0}

    def close(self) -> None:
        pass


def test_energy_is_summed_in_bounded_memory() -> None:
    counted = iter(range(0, 10**6, 5))
    sampler = Sampler(Watts())
    with EnergyCounter(sampler, lambda: next(counted), seconds=0.1) as energy:
        start = time.monotonic()
        while time.monotonic() - start < 0.8:
            time.sleep(0.05)
            assert len(sampler.trace.times) < 120
        lines = energy.lines()
    figures = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert figures["googlenet_deploy_power_watts"] == pytest.approx(10)
    assert 2 < figures["googlenet_deploy_energy_joules_total"] < 10 * (time.monotonic() - start)
    assert 0.15 < figures["googlenet_deploy_energy_joules_per_image"] < 2  # 10 W x 0.1 s over 5 images


def test_energy_that_is_not_measured_says_why() -> None:
    with EnergyCounter(NoSampler(NotMeasured("no meter here")), lambda: 0) as energy:
        assert energy.lines() == ["# energy is not measured: no meter here"]


def test_a_window_forgets() -> None:
    clock = FakeClock()
    window = Window(clock)
    clock.advance(10)
    for _ in range(20):
        window.add(1.0)
    assert window.rate() == pytest.approx(2.0)
    clock.advance(55)
    assert (window.values(), window.rate()) == ([1.0] * 20, pytest.approx(20 / 60))
    clock.advance(6)
    assert (window.values(), window.rate()) == ([], 0.0)
    for _ in range(MOST_SAMPLES + 5):
        clock.advance(0.001)
        window.add(1.0)
    assert len(window.values()) == MOST_SAMPLES
    assert window.rate() == pytest.approx(1000, rel=0.01)


def test_quantiles_are_numpys() -> None:
    values = sorted(np.random.default_rng(0).lognormal(size=101).tolist())
    for share in (0.0, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_the_text_form_escapes_labels() -> None:
    lines = metric("a", "gauge", "Text.", [({"tensor": 'conv"1\\x\ny'}, 1.5)])
    assert lines[2] == 'googlenet_deploy_a{tensor="conv\\"1\\\\x\\ny"} 1.5'
    assert metric("a", "gauge", "Text.", []) == []


def test_counts_and_percentiles() -> None:
    metrics = Metrics(FakeClock())
    for number in range(1, 101):
        metrics.count_image("http", number / 1000, low_confidence=number <= 25)
    lines = metrics.lines()
    assert 'googlenet_deploy_images_total{source="http"} 100' in lines
    assert "googlenet_deploy_low_confidence_share 0.25" in lines
    assert "googlenet_deploy_latency_seconds_count 100" in lines
    (median,) = [line for line in lines if 'latency_seconds{quantile="0.5"}' in line]
    assert float(median.rpartition(" ")[2]) == pytest.approx(0.0505)
    assert metrics.snapshot()["p50_ms"] == pytest.approx(50.5)


def test_a_pace() -> None:
    clock = FakeClock()
    pace = Pace(1.0, clock)
    assert [pace.due(), pace.due()] == [True, False]
    clock.advance(1.0)
    assert [pace.due(), pace.due()] == [True, False]


@pytest.mark.parametrize(
    ("text", "address"),
    [("8000", "127.0.0.1:8000"), ("0.0.0.0:80", "0.0.0.0:80"), ("[::1]:8080", "[::1]:8080"), ("nano:1", "nano:1")],
)
def test_addresses(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:", "127.0.0.1:70000", "::1:8080", "a:b", "photo.jpg"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        parse_address(text)


def test_a_camera_in_the_place_of_the_address_is_recognised() -> None:
    with pytest.raises(UsageError, match="is a camera, not an address"):
        parse_address("camera:0")
    with pytest.raises(UsageError, match="--drift-model needs --calibration-table"):
        ServeOptions(drift_model="m.onnx")


def test_a_folder_of_images_ends_and_the_server_does_not(
    colour_model: Path, colour_images: Path, serve: Callable[..., Any], picture: Callable[..., bytes]
) -> None:
    with serve(colour_model, str(colour_images)) as client:
        deadline = time.monotonic() + 10
        while "the source has ended; requests are still answered" not in client.lines:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.metric('googlenet_deploy_images_total{source="stream"}') == 3
        assert client.ask("GET", "/healthz")[0] == 200
        assert client.ask("POST", "/classify", picture(RED))[0] == 200
