"""Which commands travel to a device."""

from __future__ import annotations

# What googlenet-device.pyz holds; each runs on Python 3.8 with NumPy and Pillow.
DEVICE_COMMANDS = ("build", "infer", "benchmark", "tune", "selftest", "doctor")
DEVICE_PROGRAM = "googlenet-device.pyz"
