"""Which rails make up the total power of each module.

A rail that supplies other rails includes their power, so adding all rails counts some energy twice. Sources: NVIDIA's
Jetson Linux
Developer Guide, chapters on platform power of Nano, TX2, Xavier, Orin (r36.4.3: VDDQ_VDD2_1V8AO "is also included in
VIN_SYS_5V0") and Thor; energymon's JetsonPowerRails.md for the device trees of L4T 32.6.1.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional, Tuple


class Total(NamedTuple):
    """The definition of a total.

    Attributes:
        rails: Their sum is the total.
        covers: What the total covers.
    """

    rails: Tuple[str, ...]
    covers: str


# The first entry whose rails all exist is used.
TOTALS = (
    Total(("VIN",), "Thor with its carrier board"),
    Total(("VDD_IN",), "module"),  # Orin Nano, Orin NX, Xavier NX, TX2, TX2 NX, TX1
    Total(("POM_5V_IN",), "module"),  # Nano
    Total(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "module"),  # AGX Orin
    Total(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), "module"),  # Thor without the carrier board's monitor
    Total(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), "module"),  # AGX Xavier
)


def total_of(names: Iterable[str]) -> Optional[Total]:
    """The definition of the total for these rails; None if they are not those of a known module."""
    present = set(names)
    return next((total for total in TOTALS if present.issuperset(total.rails)), None)


def chosen_total(names: Iterable[str], chosen: Tuple[str, ...]) -> Total:
    """The total that the user chose.

    Raises:
        ValueError: One of the rails does not exist.
    """
    present = tuple(names)
    missing = [name for name in chosen if name not in present]
    if missing:
        raise ValueError(f"there is no rail {', '.join(missing)}; there are {', '.join(present)}")
    return Total(chosen, "the chosen rails")
