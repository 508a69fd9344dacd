"""`hf:OWNER/NAME[@REVISION][:CONFIG]`: a dataset of the Hugging Face hub, on this machine.

Nothing here opens a connection: `vitrail data get` brings the files of one commit and makes an
index of them, and from then on the name is that index, offline and always the same.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from vitrail.data.shards.cached_store import is_url
from vitrail.errors import DataError
from vitrail.files import cache_root

HUB = "hf:"
REPOSITORY = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
REVISION = r"[\w][\w./-]{0,95}"
_NAME = re.compile(rf"({REPOSITORY})(?:@({REVISION}))?(?::([\w][\w.-]{{0,95}}))?")


class HubData(NamedTuple):
    """name: `OWNER/NAME`; revision: a branch, tag or commit; config: one of its configurations; ""
    where none was given.
    """

    name: str
    revision: str = ""
    config: str = ""

    def __str__(self) -> str:
        revision, config = f"@{self.revision}" * bool(self.revision), f":{self.config}"
        return f"{HUB}{self.name}{revision}{config * bool(self.config)}"

    @property
    def folder(self) -> Path:
        """The folder of its index. Raises EnvironmentFault VIT-506 where there is no cache."""
        return cache_root() / "datasets" / str(self).removeprefix(HUB).replace("/", "--")


def parse_hub_data(text: str) -> HubData:
    """Of `hf:OWNER/NAME[@REVISION][:CONFIG]`. Raises DataError VIT-337."""
    found = _NAME.fullmatch(text.removeprefix(HUB))
    if found is None or ".." in text or "--" in found[1]:
        raise DataError(
            "VIT-337",
            f"{text}: expected hf:OWNER/NAME, with @REVISION and :CONFIG where they are needed.",
            hint="For instance hf:zalando-datasets/fashion_mnist",
        )
    return HubData(found[1], found[2] or "", found[3] or "")


def index_folder(text: str) -> str:
    """Where the index of a name lies. Raises DataError VIT-337 where it is not on this machine."""
    data = parse_hub_data(text)
    if not data.folder.is_dir():
        raise DataError(
            "VIT-337",
            f"{data} is not on this machine, and nothing is downloaded unless it is asked for.",
            hint=f"Download it once: vitrail data get {data}",
        )
    return os.fspath(data.folder)


def is_name(path: str) -> bool:
    """Whether data is meant by a name that is the same in every working directory: builtin:digits,
    hf:OWNER/NAME, or a place in a store.
    """
    return path.startswith(("builtin:", HUB)) or is_url(path)
