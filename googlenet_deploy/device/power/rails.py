"""Which rails make the total power of each module.

A rail that feeds others contains them, so adding every rail counts some energy twice. Sources: NVIDIA's Jetson Linux
Developer Guide, chapters on platform power of Nano, TX2, Xavier, Orin (r36.4.3: VDDQ_VDD2_1V8AO "is also included in
VIN_SYS_5V0") and Thor; energymon's JetsonPowerRails.md for the device trees of L4T 32.6.1.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional, Tuple


class Total(NamedTuple):
    """How a total is made.

    Attributes:
        rails: Their sum is the total.
        covers: What it is the power of.
    """

    rails: Tuple[str, ...]
    covers: str


# The first whose rails are all there is taken.
TOTALS = (
    Total(("VIN",), "Thor with its carrier board"),
    Total(("VDD_IN",), "module"),  # Orin Nano, Orin NX, Xavier NX, TX2, TX2 NX, TX1
    Total(("POM_5V_IN",), "module"),  # Nano
    Total(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "module"),  # AGX Orin
    Total(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), "module"),  # Thor without the carrier board's monitor
    Total(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), "module"),  # AGX Xavier
)


def total_of(names: Iterable[str]) -> Optional[Total]:
    """How the total of these rails is made; None for rails of no known module."""
    present = set(names)
    return next((total for total in TOTALS if present.issuperset(total.rails)), None)


def chosen_total(names: Iterable[str], chosen: Tuple[str, ...]) -> Total:
    """The total that a user chose.

    Raises:
        ValueError: One of the rails is not there.
    """
    present = tuple(names)
    missing = [name for name in chosen if name not in present]
    if missing:
        raise ValueError(f"there is no rail {', '.join(missing)}; there are {', '.join(present)}")
    return Total(chosen, "the chosen rails")
