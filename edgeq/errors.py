"""What can go wrong, sorted by whose fault it is.

EdgeqError
├── UsageError             the call's words do not fit together
├── TargetError            a target profile or operator table is wrong
├── ModelError             a model file is broken or holds what edgeq cannot read
├── DatasetError           the samples are broken or do not fit the model
│   └── AtChance               the float model's answers do not fit the labels: there is no accuracy to keep
├── PlanError              no scheme can be planned
├── ConvertError           a conversion failed
├── BuildError             a bundle cannot be built or is not whole
│   └── CompilerRefused        the target's compiler does not place what the plan says
├── ToolError              a library or program on this host is missing or failed
├── OutputError            a result cannot be written on this host
│   └── HistoryError           the database of runs cannot be used
├── DeviceError            the device at the other end
│   ├── Unreachable            no connection: name, address, port, refused
│   │   ├── UnknownHostKey         nobody has vouched for the device's host key yet
│   │   ├── HostKeyChanged         the host key is not the recorded one
│   │   └── AuthenticationFailed   the device refuses our keys
│   ├── DeviceBusy             somebody else is measuring there
│   ├── CommandFailed          a command ran there and failed
│   ├── TimedOut               the device did not answer in time
│   ├── Disconnected           the connection was lost in the middle
│   ├── OutOfMemory            the device has not enough memory
│   ├── DiskFull               the device has not enough disk space
│   ├── NotWritable            the folder there cannot be written
│   ├── RuntimeMissing         no Python or no interpreter that works there
│   ├── IllegalInstruction     the runtime was built for another CPU
│   ├── RunnerKilled           the onboard runner was ended by a signal
│   └── Altered                a file there is not the one that was sent
├── MeterError             a power meter is broken
└── BackendNotFound        no module of that kind has that name
"""

from __future__ import annotations


class EdgeqError(Exception):
    """A failure that has a cause the user can act on.

    `where` is `file` or `file:line`; `hint` is one command or change that can be pasted.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint


class UsageError(EdgeqError):
    """The call's words do not fit together."""


class TargetError(EdgeqError):
    """A target profile or operator table is wrong."""


class ModelError(EdgeqError):
    """A model file is broken or holds what edgeq cannot read."""


class DatasetError(EdgeqError):
    """The samples are broken or do not fit the model."""


class AtChance(DatasetError):
    """The float model's answers do not fit the labels: there is no accuracy to keep, the answer is no."""


class PlanError(EdgeqError):
    """No scheme can be planned."""


class ConvertError(EdgeqError):
    """A conversion failed."""


class BuildError(EdgeqError):
    """A bundle cannot be built or is not whole."""


class CompilerRefused(BuildError):
    """The target's compiler does not place what the plan says: the answer is no."""


class ToolError(EdgeqError):
    """A library or program on this host is missing or failed."""


class OutputError(EdgeqError):
    """A result cannot be written on this host."""


class HistoryError(OutputError):
    """The database of runs cannot be used."""


class DeviceError(EdgeqError):
    """The device at the other end."""


class Unreachable(DeviceError):
    """No connection: name, address, port, refused."""


class UnknownHostKey(Unreachable):
    """Nobody has vouched for the device's host key yet."""


class HostKeyChanged(Unreachable):
    """The host key is not the recorded one."""


class AuthenticationFailed(Unreachable):
    """The device refuses our keys."""


class DeviceBusy(DeviceError):
    """Somebody else is measuring on the device."""


class CommandFailed(DeviceError):
    """A command ran on the device and failed."""


class TimedOut(DeviceError):
    """The device did not answer in time."""


class Disconnected(DeviceError):
    """The connection was lost in the middle."""


class OutOfMemory(DeviceError):
    """The device has not enough memory."""


class DiskFull(DeviceError):
    """The device has not enough disk space."""


class NotWritable(DeviceError):
    """The folder on the device cannot be written."""


class RuntimeMissing(DeviceError):
    """No Python, or no interpreter that works, on the device."""


class IllegalInstruction(DeviceError):
    """The runtime on the device was built for another CPU."""


class RunnerKilled(DeviceError):
    """The onboard runner was ended by a signal."""


class Altered(DeviceError):
    """A file on the device is not the one that was sent."""


class MeterError(EdgeqError):
    """A power meter is broken."""


class BackendNotFound(EdgeqError):
    """No module of that kind has that name."""
