"""Every benchmark, one after the other (`make bench`): about half an hour on two cores.

    python -m benchmarks.run [NAME ...]

Tables go to the screen, figures to benchmarks/results/NAME.json. Method: docs/performance.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = [
    "start_up",
    "training_step",
    "prediction",
    "data_path",
    "randaugment",
    "checkpoint_reading",
]


def main() -> None:
    """Run the named benchmarks, or all; the exit code is that of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    for name in names:
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
