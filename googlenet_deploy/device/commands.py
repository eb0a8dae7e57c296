"""The commands that are available on a device."""

from __future__ import annotations

# The commands in googlenet-device.pyz; each runs on Python 3.8 with NumPy and Pillow.
DEVICE_COMMANDS = ("build", "infer", "benchmark", "tune", "selftest", "doctor")
DEVICE_PROGRAM = "googlenet-device.pyz"
