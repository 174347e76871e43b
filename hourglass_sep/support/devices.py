"""Choice of the compute device, and peak memory of this process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hourglass_sep.support.errors import UserError

if TYPE_CHECKING:  # importing torch takes seconds, and help texts need only DEVICES
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def found() -> dict[str, str]:
    """Devices available on this machine, the best first: device name to description."""
    import torch

    devices = {}
    if torch.cuda.is_available():
        devices["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return devices | {"cpu": f"{torch.get_num_threads()} thread(s)"}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU if one is available, else the CPU.

    Args:
        name: one of `DEVICES`.

    Raises:
        UserError: the name is unknown, or the device is not available on this machine.
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"device {name!r} is not known: choose from {', '.join(DEVICES)}")
    devices = found()
    if name == "auto":
        return torch.device(next(iter(devices)))
    if name not in devices:
        raise UserError(f"no {name} device found here: use {' or '.join(devices)}, or auto")
    return torch.device(name)


def explain_device(name: str, chosen: torch.device) -> str:
    """One line naming the chosen device and the reason for the choice."""
    what = f"{chosen.type} ({found()[chosen.type]})"
    if name != "auto":
        return f"{what}, as asked for"
    return f"{what}: the best found here" if chosen.type != "cpu" else f"{what}: no GPU found here"


def peak_memory_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system does not report it."""
    with suppress(OSError):  # Linux; getrusage would include the parent's memory at the time it started this process
        status = Path("/proc/self/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / (1 << 10)
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)
