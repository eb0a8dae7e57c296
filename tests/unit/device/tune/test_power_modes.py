from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from googlenet_deploy.device.tune.power_modes import PowerModeSwitch
from googlenet_deploy.errors import DeviceError, UsageError

from .conftest import JetsonFolder

Sleeps = list[float]


def switch(jetson: JetsonFolder) -> PowerModeSwitch:
    return PowerModeSwitch(jetson.root, is_root=True, sleep=lambda _seconds: None)


def test_modes_are_set_and_the_one_that_was_found_is_put_back(jetson: JetsonFolder) -> None:
    with switch(jetson) as modes:
        assert list(modes.names) == ["15W", "7W", "MAXN", "10W"]
        assert (modes.found, jetson.asked) == (0, [])
        assert modes.set("15W") == ""
        assert jetson.asked == []  # it is set already
        assert modes.set("MAXN") == ""
        assert jetson.mode == 2
        assert modes.set("7W") == ""
        assert jetson.mode == 1
    assert jetson.mode == 0
    assert jetson.asked == [2, 1, 0]


def test_the_present_mode_comes_first_and_is_not_set_again(jetson: JetsonFolder) -> None:
    (jetson.folder / "mode").write_text("3\n")
    with switch(jetson) as modes:
        assert list(modes.names) == ["10W", "15W", "7W", "MAXN"]
    assert jetson.asked == []


def test_a_mode_that_needs_a_reboot_is_left_out_and_nothing_reboots(jetson: JetsonFolder) -> None:
    (jetson.folder / "reboot").write_text("2\n")
    with switch(jetson) as modes:
        assert modes.set("MAXN") == "needs a reboot"
        assert (jetson.mode, modes.current) == (0, 0)
        assert modes.set("7W") == ""
    assert jetson.mode == 0
    assert not (jetson.folder / "rebooted").exists()


def leave_7w(jetson: JetsonFolder, error: type[BaseException] | None = None) -> None:
    """Enters a mode that cannot be left, tries to, and ends."""
    (jetson.folder / "stuck").write_text("1\n")
    with switch(jetson) as modes:
        assert modes.set("7W") == ""
        assert "fbp_pg_mask" in modes.set("MAXN")
        if error is not None:
            raise error


def test_a_mode_that_cannot_be_left_is_an_error_that_names_the_remedy(jetson: JetsonFolder) -> None:
    with pytest.raises(DeviceError, match="the power mode 15W could not be put back") as error:
        leave_7w(jetson)
    assert "nvpmodel -m 0" in str(error.value.remedy)


def test_beside_another_error_it_is_printed(jetson: JetsonFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        leave_7w(jetson, KeyboardInterrupt)
    assert "warning: the power mode 15W could not be put back" in capsys.readouterr().err


HOLDER = """
import sys, time
from pathlib import Path
from googlenet_deploy.device.tune.power_modes import PowerModeSwitch
with PowerModeSwitch(Path(sys.argv[1]), is_root=True, sleep=lambda _: None) as modes:
    assert modes.set("MAXN") == ""
    print("set", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_the_process_the_mode_is_put_back(jetson: JetsonFolder, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(jetson.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "set\n"
    assert jetson.mode == 2
    os.kill(process.pid, number)
    process.wait(10)
    process.stdout.close()
    end = time.monotonic() + 10
    while jetson.mode != 0 and time.monotonic() < end:
        time.sleep(0.02)
    assert jetson.mode == 0


def test_only_root_on_a_jetson_with_nvpmodel(jetson: JetsonFolder, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="only root may set power modes") as error:
        PowerModeSwitch(jetson.root, is_root=False)
    assert "sudo" in str(error.value.remedy)
    with pytest.raises(UsageError, match="this machine is not a Jetson"):
        PowerModeSwitch(tmp_path / "empty", is_root=True)
    (jetson.root / "etc/nvpmodel.conf").write_text("")
    with pytest.raises(DeviceError, match="names no mode"):
        PowerModeSwitch(jetson.root, is_root=True)
    (jetson.root / "usr/sbin/nvpmodel").unlink()
    with pytest.raises(DeviceError, match=r"there is no .*nvpmodel"):
        PowerModeSwitch(jetson.root, is_root=True)


def test_an_nvpmodel_that_says_nothing_is_named(jetson: JetsonFolder) -> None:
    (jetson.root / "usr/sbin/nvpmodel").write_text("#!/bin/sh\necho 'NVPM ERROR: no such file'\n")
    with pytest.raises(DeviceError, match="does not report the power mode: NVPM ERROR"):
        switch(jetson)


def test_modes_of_one_name_are_told_apart(jetson: JetsonFolder) -> None:
    (jetson.root / "etc/nvpmodel.conf").write_text(
        "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN >\n"
    )
    with switch(jetson) as modes:
        assert list(modes.names) == ["15W (0)", "15W (1)", "MAXN"]
        assert modes.set("15W (1)") == ""
        assert jetson.mode == 1
