"""Switches a Jetson's power modes with ``nvpmodel``, and restores the original mode.

A mode persists across power cycles, so it must be restored however this process ends. A shell in its own session waits
for the end of a pipe that this process holds open. When the pipe closes, after a normal end or because the process was
killed (then after two seconds, in which a pending change completes), the shell restores the mode. If a mode needs a
reboot, ``nvpmodel`` asks; the answer is "NO", and the mode is left out. A few modes can be entered but not left without
a reboot (on the Orin Nano 4 GB with early JetPacks); that is an error at the end, which names the mode to set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, Optional

from googlenet_deploy.device.system.jetson import find_jetson, power_modes
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import DeviceError, UsageError

PROGRAM = "usr/sbin/nvpmodel"
SECONDS = 60.0  # that nvpmodel may take
SETTLE_SECONDS = 1.0  # for clocks and voltages after a change
_NO = "NO\n"
_GUARD = """\
trap '' INT TERM HUP
[ "$(cat)" = done ] || sleep 2
"$0" -q </dev/null 2>/dev/null | grep -qx "$1" || printf 'NO\\n' | "$0" -m "$1" >/dev/null 2>&1
"""


class PowerModeSwitch:
    """Sets power modes; a context manager that restores the original mode, see the module.

    Args:
        root: Root of the file system.
        is_root: Whether this process may set modes.
        sleep: Waits for a number of seconds.

    Attributes:
        modes: Names of the modes by number, in the order of the numbers.
        found: The original mode.
        current: The current mode.

    Raises:
        UsageError: This machine is not a Jetson.
        DeviceError: This process is not root; nvpmodel is missing, or does not report the current mode.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        is_root: Optional[bool] = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if find_jetson(root) is None:
            raise UsageError("--power-modes: this machine is not a Jetson", "leave --power-modes out")
        if not (os.geteuid() == 0 if is_root is None else is_root):
            raise DeviceError("--power-modes: only root may set power modes", "run the same command with sudo")
        self._program, self._sleep = root / PROGRAM, sleep
        if not self._program.is_file():
            raise DeviceError(
                f"--power-modes: there is no {self._program}", "run outside of a container, or leave it out"
            )
        names = power_modes(try_text(root / "etc/nvpmodel.conf"))
        if not names:
            raise DeviceError(f"--power-modes: {root / 'etc/nvpmodel.conf'} names no mode", "leave --power-modes out")
        twice = {name for name in names.values() if list(names.values()).count(name) > 1}
        self.modes: Dict[int, str] = {
            number: f"{name} ({number})" if name in twice else name for number, name in sorted(names.items())
        }
        self.found = self.current = self._query()
        self._guard: Optional[subprocess.Popen[bytes]] = None

    @property
    def names(self) -> Dict[str, int]:
        """Numbers by name, the current mode first: it needs no switch."""
        order = sorted(self.modes, key=lambda number: (number != self.found, number))
        return {self.modes[number]: number for number in order}

    def set(self, name: str) -> str:
        """Sets a mode; returns why it cannot be set, or "" if it is set."""
        number = self.names[name]
        if number == self.current:
            return ""
        answer = self._run("-m", str(number))
        if "reboot" in answer.lower():
            return "needs a reboot"
        self.current = self._query()
        if self.current != number:
            reason = next(
                (line for line in answer.splitlines() if "ERROR" in line), answer.strip() or "no reason given"
            )
            return f"nvpmodel does not set it: {printable(reason)}"
        self._sleep(SETTLE_SECONDS)
        return ""

    def __enter__(self) -> PowerModeSwitch:
        """Starts the shell that restores the mode."""
        self._guard = subprocess.Popen(  # noqa: S603 - no shell expands anything of ours
            ["/bin/sh", "-c", _GUARD, str(self._program), str(self.found)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: object) -> None:
        """Restores the mode.

        Raises:
            DeviceError: nvpmodel does not restore it; printed instead if another exception is being handled.
        """
        assert self._guard is not None
        assert self._guard.stdin is not None
        try:
            self._guard.stdin.write(b"done")
            self._guard.stdin.close()
            self._guard.wait(SECONDS)
            self.current = self._query()
        except (OSError, subprocess.TimeoutExpired, DeviceError):
            self.current = -1
        if self.current == self.found:
            return
        what = f"the power mode {self.modes.get(self.found, self.found)} could not be put back"
        remedy = f"sudo nvpmodel -m {self.found}; where it asks for a reboot, reboot"
        if error is None:
            raise DeviceError(what, remedy)
        print(f"warning: {what}: {remedy}", file=sys.stderr, flush=True)

    def _query(self) -> int:
        answer = self._run("-q")
        number = re.search(r"^\s*(\d+)\s*$", answer, re.MULTILINE)
        if number is None:
            raise DeviceError(
                f"{self._program} -q does not report the power mode: {printable(answer.strip() or 'nothing')}"
            )
        return int(number.group(1))

    def _run(self, *arguments: str) -> str:
        """Returns nvpmodel's output; it runs in its own session, so that Ctrl-C does not stop it half-way."""
        try:
            result = subprocess.run(  # noqa: S603 - no shell
                [str(self._program), *arguments],
                input=_NO,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DeviceError(f"{self._program} {' '.join(arguments)} failed: {printable(str(error))}") from error
        return result.stdout
