"""`python -m vitrail`: the command line.

Python has put the working directory first on the path of modules by then, and takes a folder
`vitrail` of that place for this one before a line of ours is read: in a folder of somebody else use
the command `vitrail`, or `python -P -m vitrail`. What is imported from here on is not looked for
there.
"""

from __future__ import annotations

import sys

from vitrail.system.child_process import forget_working_directory

forget_working_directory()

from vitrail.cli.main import main  # noqa: E402  # after the path of modules is as it should be

if __name__ == "__main__":
    sys.exit(main())
