"""A dataset of the Hugging Face hub, through its own library: Parquet files of one commit.

Only Parquet files are taken: those of the repository, or, where it has none, those that the hub
made of it (the branch refs/convert/parquet). No code of a dataset is downloaded, let alone run. The
commit is noted in the index, and the sha256 that the hub states for a file is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vitrail.checkpoints.hub.download import MAX_BYTES, Progress
from vitrail.checkpoints.hub.hf_download import (
    Repository,
    fetch_files,
    hub_faults,
    require_library,
)
from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions
from vitrail.data.shards.index import IndexRecord
from vitrail.data.sources.hub_data import HubData
from vitrail.data.sources.split_names import split_word
from vitrail.errors import DataError, EnvironmentFault
from vitrail.files import refuse_existing

CONVERTED = "refs/convert/parquet"
PLAIN = "default"  # the configuration of files that lie in no folder of one


def get_dataset(
    data: HubData,
    out: Path | None = None,
    options: ShardOptions | None = None,
    *,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
    endpoint: str | None = None,
) -> IndexRecord:
    """Bring the files into the hub's cache, decode every image once, and write the index: to where
    `data` is found by its name, or to the folder `out`.

    Raises UsageError VIT-206 where the index exists; DataError VIT-301, VIT-332, VIT-334, VIT-338
    (no Parquet files, or which configuration); ModelError VIT-461 (another sha256), VIT-465 (no
    such repository); EnvironmentFault VIT-520, VIT-530, VIT-531, VIT-534.
    """
    place = out or data.folder
    refuse_existing(place, hint="It is there already: train on it, or remove it to get it again.")
    library, repository = require_library(), Repository(data.name, data.revision)
    with hub_faults(library, repository):
        info, files = _chosen(library.HfApi(endpoint=endpoint), data)
        size = sum(one.size or 0 for one in files)
        if size > max_bytes:
            raise EnvironmentFault("VIT-534", f"{data} has {size} bytes; limit {max_bytes}.")
        paths = fetch_files(
            library, repository, info.sha, files, progress, endpoint, kind="dataset"
        )
    config = data.config or _config(PurePosixPath(files[0].rfilename))
    made = {"hub": str(HubData(data.name, info.sha, config))}
    folder = _common_folder(paths, files)
    return index_shards(
        *(folder, place, options or ShardOptions()),
        name=data.name.rpartition("/")[2],
        only=[path.relative_to(folder).as_posix() for path in paths],
        made=made,
    )


def _chosen(api: Any, data: HubData) -> tuple[Any, list[Any]]:
    """The commit and its files of one configuration. Raises DataError VIT-338."""
    info = api.dataset_info(data.name, revision=data.revision or None, files_metadata=True)
    configs = _configs(info.siblings)
    if not configs and not data.revision:
        info = api.dataset_info(data.name, revision=CONVERTED, files_metadata=True)
        configs = _configs(info.siblings)
    if not configs:
        raise DataError(
            "VIT-338",
            f"{data} has no Parquet files; only those are read, and no code of a dataset is run.",
            hint="Download its images by hand and give their folder.",
        )
    if not data.config and len(configs) > 1 or data.config and data.config not in configs:
        first = next(iter(configs))
        raise DataError(
            "VIT-338",
            f"{data} has the configurations {', '.join(configs)}; expected one of them.",
            hint=f"For instance vitrail data get {data._replace(config=first)}",
        )
    return info, configs[data.config or next(iter(configs))]


def _configs(siblings: Sequence[Any]) -> dict[str, list[Any]]:
    """Configuration -> its Parquet files, by name."""
    found: dict[str, list[Any]] = {}
    for one in sorted(siblings, key=lambda one: str(one.rfilename)):
        path = PurePosixPath(one.rfilename)
        if path.suffix == ".parquet" and len(path.parts) <= 3 and ".." not in path.parts:
            found.setdefault(_config(path), []).append(one)
    return found


def _config(path: PurePosixPath) -> str:
    """The first folder, unless it is that of all files or of a split."""
    first = path.parts[0]
    is_plain = len(path.parts) == 1 or first == "data" or split_word(first) is not None
    return PLAIN if is_plain else first


def _common_folder(paths: Sequence[Path], files: Sequence[Any]) -> Path:
    """The folder that holds the files, or the folders of their splits."""
    depth = max(len(PurePosixPath(one.rfilename).parts) for one in files)
    above = {path.parents[1] if depth == 3 else path.parent for path in paths}
    return above.pop() if len(above) == 1 else paths[0].parents[1]
