"""Rails of a Raspberry Pi 5's power chip, read on it through vcgencmd; their sum is an estimate."""

from __future__ import annotations

from edgeq.lab.meters import Meter
from edgeq.lab.onboard_meter import OnboardMeter
from edgeq.lab.runner import USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.types import Device

SOURCE = "pmic"


def connect(device: Device, transport: Transport, *, roots: Roots = USUAL_ROOTS) -> Meter:
    """A meter over this source of the device."""
    return OnboardMeter(device, transport, SOURCE, roots)
