"""Error limits, in watts, of the Texas Instruments power monitors on Jetson modules.

INA3221 (data sheet SBOS576, DC accuracy at 25 degrees Celsius, maximum): shunt gain 0.25 %, bus gain 0.25 %, shunt
offset 80 microvolts; one step is 40 microvolts of shunt and 8 mV of bus voltage. INA238 (SLYS025): total error of the
power 0.7 %, shunt offset 5 microvolts. The sense resistors are 1 % parts (Jetson AGX Xavier Series Product Design
Guide DG-09840, figure 5-14); the guides of other modules that we could read do not contradict it.
"""

from __future__ import annotations

from typing import Optional

from googlenet_deploy.device.power.meter import Limits

RESISTOR = 0.01
INA3221_GAIN = 0.0025 + 0.0025
INA3221_OFFSET_VOLTS = 80e-6
INA3221_STEP_VOLTS = 40e-6
INA238_POWER = 0.007
INA238_OFFSET_VOLTS = 5e-6
INA238_STEP_VOLTS = 5e-6
# The chip's ranges: a value outside them is not a measurement.
INA3221_MAX_BUS_MILLIVOLTS = 32_760
INA3221_MAX_SHUNT_VOLTS = 0.1638
# Rails of tens of watts have resistors of two milliohms; half a milliohm is below that of every plausible board.
SMALLEST_OHMS = 0.0005
# The label of an unconnected channel.
UNCONNECTED = "NC"
# The smallest value in NVIDIA's device trees (tegra234-p3701.dtsi), so that the assumption is never too optimistic.
ASSUMED_OHMS = 0.002
SUPPLY_VOLTS = 5.0
SOURCE = "TI data sheets SBOS576 (INA3221) and SLYS025 (INA238), 1 % sense resistors (NVIDIA DG-09840)"


def ina3221_limits(volts: Optional[float] = None, ohms: Optional[float] = None) -> Limits:
    """Error limits of one channel.

    Args:
        volts: Its bus voltage; None assumes 5 V.
        ohms: Its sense resistor; None assumes `ASSUMED_OHMS`.
    """
    watts_per_volt = (SUPPLY_VOLTS if volts is None else volts) / (ASSUMED_OHMS if ohms is None else ohms)
    return Limits(INA3221_GAIN + RESISTOR, INA3221_OFFSET_VOLTS * watts_per_volt, INA3221_STEP_VOLTS * watts_per_volt)


def ina238_limits(volts: Optional[float] = None, ohms: Optional[float] = None) -> Limits:
    """Error limits of an INA238; arguments as for `ina3221_limits`."""
    watts_per_volt = (SUPPLY_VOLTS if volts is None else volts) / (ASSUMED_OHMS if ohms is None else ohms)
    return Limits(INA238_POWER + RESISTOR, INA238_OFFSET_VOLTS * watts_per_volt, INA238_STEP_VOLTS * watts_per_volt)
