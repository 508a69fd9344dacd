"""Folders of the package that are functions too: `vitrail.report(run)`, `export`, `runs`.

Python binds the name of a folder in the package as soon as one of its modules is imported, so a
function of the same name in `vitrail` would be hidden from then on. These folders are called
instead: the folder is a module that hands the call to the public function of its name, and both
`vitrail.report(run)` and `from vitrail.report.frame import page` work, in any order.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallableFolder(ModuleType):
    """A folder that hands calls to the function of its name in the module `home`."""

    home: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """As the function."""
        return self.function(*arguments, **named)

    @property
    def function(self) -> Callable[..., Any]:
        """The function that is called."""
        found: Callable[..., Any] = getattr(import_module(self.home), self.__name__.split(".")[-1])
        return found

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function)


def make_callable(folder: str, home: str) -> None:
    """Let the imported module `folder` be called as the function of its name in `home`."""
    module = sys.modules[folder]
    module.__class__ = CallableFolder
    module.__dict__["home"] = home
