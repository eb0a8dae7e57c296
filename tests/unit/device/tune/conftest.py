"""A Jetson in a folder with an nvpmodel of a few lines, models for a clock that moves only by what is run, a meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock

from googlenet_deploy.device.engine.manifest import EngineManifest, sha256_bytes, write_engine
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.power.energy import Energy
from googlenet_deploy.device.power.meter import Limits, NotMeasured, Rail
from googlenet_deploy.device.runner.protocol import TensorSpec
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.tune.measure import TuneMachine
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.device.tune.run import Tuner
from googlenet_deploy.device.tune.runnable import TuneRequest
from googlenet_deploy.device.tune.tuned_file import TuneSetting

SMALL = Preprocessing(resize=8, crop=(8, 8))
CLASSES = 5
NVPMODEL = """\
#!/bin/sh
cd '{folder}'
case "$1" in
    -q) printf 'NV Power Mode: some\\n%s\\n' "$(cat mode)" ;;
    -m)
        printf '%s\\n' "$2" >>asked
        if grep -qx "$2" reboot; then
            echo "NVPM WARN: Reboot required for changing to this power mode: $2"
            echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
            read -r answer
            case "$answer" in YES | yes) echo now >rebooted ;; esac
            exit 255
        fi
        if [ -e stuck ] && [ "$(cat mode)" = "$(cat stuck)" ]; then
            echo "NVPM ERROR: Error writing 2 to /sys/devices/gpu.0/fbp_pg_mask: 19"
            exit 255
        fi
        printf '%s\\n' "$2" >new
        mv new mode ;;
esac
"""


class JetsonFolder:
    """An Orin Nano's files below a root, with modes 15W (0), 7W (1), MAXN (2) and 10W (3); 15W is set."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "nvpmodel"
        files = {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "etc/nvpmodel.conf": "".join(
                f"< POWER_MODEL ID={number} NAME={name} >\n" for number, name in enumerate(("15W", "7W", "MAXN", "10W"))
            ),
            "nvpmodel/mode": "0\n",
            "nvpmodel/reboot": "",
            "usr/sbin/nvpmodel": NVPMODEL.format(folder=self.folder),
        }
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (root / "usr/sbin/nvpmodel").chmod(0o755)

    @property
    def mode(self) -> int:
        """The mode that is set."""
        return int((self.folder / "mode").read_text())

    @property
    def asked(self) -> list[int]:
        """The modes that nvpmodel was asked to set, in order."""
        path = self.folder / "asked"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def jetson(tmp_path: Path) -> JetsonFolder:
    """See `JetsonFolder`."""
    return JetsonFolder(tmp_path / "jetson")


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only by `advance`."""
    return FakeClock()


class TimedRunner:
    """Takes what `seconds` says on the fake clock; gives every image class 0, or `wrong` of each ten class 1."""

    backend = "Test 1.0 (GPU)"
    input = TensorSpec("input", (None, 3, 8, 8), "float32")
    outputs = (TensorSpec("logits", (None, CLASSES), "float32"),)
    metadata = ModelMetadata(preprocessing=SMALL)
    batch_range: tuple[int, int | None] = (1, 8)

    def __init__(self, clock: FakeClock, path: Path, seconds: Callable[[int], float], wrong: int, device: str) -> None:
        self.clock, self.path, self.seconds, self.wrong, self.device = clock, str(path), seconds, wrong, device
        self.notes: list[str] = []
        self.answered = 0
        self.opened = True

    def run(self, batch: Any) -> dict[str, Any]:
        assert self.opened
        self.clock.advance(self.seconds(len(batch)))
        logits = np.tile(np.arange(CLASSES, 0, -1, dtype=np.float32), (len(batch), 1))
        for row in logits:
            row[1] += 9 if self.answered % 10 < self.wrong else 0
            self.answered += 1
        return {"logits": logits}

    def __enter__(self) -> TimedRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened = False


class WattMeter:
    """Watts as `watts` says, as a sampler on the fake clock; dead once `dead` is set."""

    period, lag = 0.01, 0.0
    name, covers, source = "made up", "module", "made up"
    rails = (Rail("VDD_IN", True, Limits(0.01, 0.0, 0.0)),)

    def __init__(self, clock: FakeClock, watts: Callable[[], float]) -> None:
        self.clock, self.watts, self.dead, self.meter = clock, watts, False, self

    def __enter__(self) -> WattMeter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self) -> float:
        return self.clock()

    def energy(self, start: float, end: float) -> Energy | NotMeasured:
        if self.dead:
            return NotMeasured("the meter died")
        joules = self.watts() * (end - start)
        return Energy(joules, end - start, 0.0, 0.0, 0.0, 0.01, 50, 50.0, 0, {"VDD_IN": joules})


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Path]:
    """Writes an engine that nobody could run, with its manifest."""

    def make(name: str, precision: str, **changes: Any) -> Path:
        data = f"engine {name} {precision}".encode()
        values: dict[str, Any] = {
            "engine_sha256": sha256_bytes(data),
            "engine_bytes": len(data),
            "backend": "tensorrt",
            "tensorrt_version": "10.3.0",
            "compute_capabilities": ("8.7",),
            "gpu": "Orin",
            "dialect": "weakly typed",
            "precision": precision,
            "flags": (),
            "options": {},
            "inputs": (),
            "outputs": (),
            "batch": (1, 2, 8),
            "layers": (),
            "layers_note": "",
            "precision_shares": {},
            "device_memory_bytes": 2**20,
            "timing_cache_sha256": "",
            "calibration": {},
            "build_seconds": 1.0,
            "notes": (),
            "source": {"metadata": {"googlenet_deploy.source_sha256": "5" * 64}},
            "rebuild": "",
        }
        path = tmp_path / "engines" / name
        path.parent.mkdir(exist_ok=True)
        write_engine(path, data, EngineManifest(**{**values, **changes}))
        return path

    return make


MakeTuner = Callable[..., Tuner]


@pytest.fixture
def make_tuner(tmp_path: Path, clock: FakeClock, make_engine: Callable[..., Path]) -> MakeTuner:
    """A tuner of fake engines: `milliseconds` per image by precision, a tenth of it once per batch."""

    def make(
        milliseconds: Mapping[str, float],
        options: TuneOptions,
        *,
        root: Path = tmp_path / "nothing",
        watts: Callable[[], float] | None = None,
        factor: Callable[[TuneSetting], float] = lambda _setting: 1.0,
        before_run: Callable[[TuneSetting], None] = lambda _setting: None,
        wrong: Mapping[str, int] | None = None,
        sampler: Any = None,
        **arguments: Any,
    ) -> Tuner:
        root.mkdir(exist_ok=True)
        places = [make_engine(f"{name}.engine", name) for name in milliseconds]

        def open_file(file: Path, setting: TuneSetting, slots: int) -> Any:
            def seconds(images: int) -> float:
                before_run(setting)
                return milliseconds[file.stem] * (0.1 + images) * factor(setting) / 1000

            return TimedRunner(clock, file, seconds, (wrong or {}).get(file.stem, 0), "GPU")

        request = TuneRequest(
            places,
            options,
            open_file,
            lambda _runner: SMALL,
            **{key: arguments.pop(key) for key in ("sources",) if key in arguments},
        )
        meter = sampler or (None if watts is None else WattMeter(clock, watts))
        from googlenet_deploy.device.power.none import NoSampler

        machine = TuneMachine(
            meter or NoSampler(NotMeasured("no meter is here", "buy one")), clock=clock, sleep=clock.advance
        )
        return Tuner(request, root=root, machine=machine, **arguments)

    return make
