"""Which systems Vitrail runs on: Linux and macOS. Locks of runs, limits and signals are POSIX's."""

from __future__ import annotations

import os

from vitrail.errors import EnvironmentFault


def require_posix(system: str = os.name) -> None:
    """Raises EnvironmentFault VIT-502 on Windows. system: as `os.name`."""
    if system != "posix":
        raise EnvironmentFault(
            "VIT-502",
            "Vitrail runs on Linux and macOS; Windows is not supported.",
            hint="Use the Windows Subsystem for Linux: wsl --install",
        )
