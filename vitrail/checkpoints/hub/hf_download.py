"""`hf:OWNER/NAME[@REVISION]`: a repository of the Hugging Face hub, through its own library.

Needs the extra [hub]; its cache (HF_HOME), its mirror (HF_ENDPOINT), its token and its offline
switch (HF_HUB_OFFLINE) hold. Of a repository only configuration and weights are taken, never code.
The commit that `main` was when a name was first used is noted and used again, so that a name stays
the same model and needs no network twice; `@main` asks anew. The sha256 that the hub states for the
weights is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitrail.checkpoints.hub.download import MAX_BYTES, Progress, cache_dir
from vitrail.data.sources.hub_data import REPOSITORY, REVISION
from vitrail.errors import EnvironmentFault, ModelError, VitrailError, lacking
from vitrail.files import write_whole

COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(rf"({REPOSITORY})(?:@({REVISION}))?")
CONFIGS = (
    "model.json",
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
)
# The first that is there; of those with an index, the parts beside it.
SINGLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
SHARDED = {
    "model.safetensors.index.json": re.compile(r"model-\d{5}-of-\d{5}\.safetensors"),
    "pytorch_model.bin.index.json": re.compile(r"pytorch_model-\d{5}-of-\d{5}\.bin"),
}
ADAPTER = "adapter_config.json"


class Repository(NamedTuple):
    """name: `OWNER/NAME`; revision: a branch, tag or commit, "" where none was given."""

    name: str
    revision: str = ""

    def __str__(self) -> str:
        return f"hf:{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse_repository(text: str) -> Repository:
    """Of `OWNER/NAME[@REVISION]`. Raises ModelError VIT-464."""
    found = NAME.fullmatch(text)
    if found is None or ".." in text or "--" in found[1]:
        raise ModelError(
            "VIT-464",
            f"hf:{text}: expected OWNER/NAME, or OWNER/NAME@REVISION.",
            hint="For instance hf:google/vit-base-patch16-224",
        )
    return Repository(found[1], found[2] or "")


def fetch(
    repository: Repository,
    *,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
    endpoint: str | None = None,
) -> Path:
    """The folder with configuration and weights in the hub's cache.

    Raises ModelError VIT-461 (another sha256), VIT-465 (no such repository, or closed), VIT-466 (no
    weights); EnvironmentFault VIT-520 (no library), VIT-530 (no connection), VIT-531, VIT-534.
    """
    library = require_library()
    note = _read_note(repository)
    if note and (folder := _cached(library, repository.name, note["commit"], note["files"])):
        return folder
    with hub_faults(library, repository):
        api = library.HfApi(endpoint=endpoint)
        revision = note["commit"] if note else repository.revision or None
        info = api.model_info(repository.name, revision=revision, files_metadata=True)
        wanted = _wanted(repository, info.siblings, max_bytes)
        paths = fetch_files(library, repository, info.sha, wanted, progress, endpoint)
    names = [sibling.rfilename for sibling in wanted]
    _write_note(repository, {"commit": info.sha, "files": names})
    return paths[-1].parent


def fetch_files(
    library: Any,
    repository: Repository,
    commit: str,
    siblings: Sequence[Any],
    progress: Progress | None,
    endpoint: str | None,
    kind: Literal["model", "dataset"] = "model",
) -> list[Path]:
    """Where the files of a commit lie in the hub's cache, checked. Raises ModelError VIT-461, and
    what the library raises.
    """
    paths = []
    more = {} if kind == "model" else {"repo_type": kind}
    for sibling in siblings:
        size, what = sibling.size or 0, f"downloading {sibling.rfilename}"
        if progress:
            progress(what, 0, size)
        path = library.hf_hub_download(
            repository.name,
            sibling.rfilename,
            revision=commit,
            endpoint=endpoint,
            tqdm_class=_bars(progress, what, size),
            **more,
        )
        _check_sha256(repository, Path(path), sibling)
        paths.append(Path(path))
        if progress:
            progress(what, size, size)
    return paths


@contextmanager
def hub_faults(library: Any, repository: Repository) -> Iterator[None]:
    """What the library raises, as ours: ModelError VIT-465, EnvironmentFault VIT-530, VIT-531."""
    errors = library.errors
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _closed(repository, error, isinstance(error, errors.GatedRepoError)) from error
    except errors.HfHubHTTPError as error:
        raise EnvironmentFault(
            "VIT-531", f"{repository}: {_first_line(error)}", hint=_by_hand(repository)
        ) from error
    except (errors.HTTPError, OSError) as error:  # no connection, offline switch, disk
        raise no_connection(repository, error) from error


def _wanted(repository: Repository, siblings: Iterable[Any], max_bytes: int) -> list[Any]:
    """Configuration, then one set of weights. Raises ModelError VIT-466, EnvironmentFault
    VIT-534.
    """
    by_name = {sibling.rfilename: sibling for sibling in siblings}
    weights = _weights(by_name)
    if not weights:
        shown = ", ".join(sorted(by_name)[:10]) or "nothing"
        is_adapter = ADAPTER in by_name
        raise ModelError(
            "VIT-466",
            f"{repository} is an adapter of peft (LoRA), not a complete model."
            if is_adapter
            else f"{repository} has no model.safetensors and no pytorch_model.bin; it has {shown}.",
            hint="Merge it into its model first: merge_and_unload()"
            if is_adapter
            else "Give a repository of a classifier, or download a file by hand and give it.",
        )
    wanted = [by_name[name] for name in [*(c for c in CONFIGS if c in by_name), *weights]]
    size = sum(sibling.size or 0 for sibling in wanted)
    if size > max_bytes:
        raise EnvironmentFault(
            "VIT-534",
            f"{repository} has {size} bytes; limit {max_bytes}.",
            hint="If that is right, download it by hand and give the folder.",
        )
    return wanted


def _weights(names: Iterable[str]) -> list[str]:
    """One set of weights, safetensors before pickles, one file before parts and their index."""
    names = set(names)
    for kind in (".safetensors", ".bin"):
        for name in SINGLE:
            if name in names and name.endswith(kind):
                return [name]
        for index, form in SHARDED.items():
            parts = sorted(name for name in names if form.fullmatch(name))
            if index in names and parts and parts[0].endswith(kind):
                return [index, *parts]
    return []


def _cached(library: Any, name: str, commit: str, files: Sequence[str]) -> Path | None:
    """The folder where every file is in the hub's cache; asks nobody."""
    try:
        paths = [
            library.hf_hub_download(name, file, revision=commit, local_files_only=True)
            for file in files
        ]
    except library.errors.LocalEntryNotFoundError:
        return None
    return Path(paths[0]).parent if paths else None


def _check_sha256(repository: Repository, path: Path, sibling: Any) -> None:
    """What the hub states for large files. Raises ModelError VIT-461."""
    if not sibling.lfs:
        return
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sibling.lfs.sha256:
        raise ModelError(
            "VIT-461",
            f"{repository}, {path.name}: expected the sha256 {sibling.lfs.sha256} of the hub, got "
            f"{digest}.",
            hint=f"Damaged on the way: delete {path.resolve()} and try again.",
        )


def _note_path(repository: Repository) -> Path:
    owner_name = repository.name.replace("/", "--")
    ending = f"@{repository.revision}" if repository.revision else ""
    return cache_dir() / "hub" / f"{owner_name}{ending}.json"


def _read_note(repository: Repository) -> dict[str, Any]:
    """Commit and files of the first use; nothing for a branch or tag, which may move."""
    if repository.revision and not COMMIT.fullmatch(repository.revision):
        return {}
    try:
        note = json.loads(_note_path(repository).read_text(encoding="utf-8"))
        is_sound = COMMIT.fullmatch(note["commit"]) and all(
            isinstance(name, str) and "/" not in name for name in note["files"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(note) if is_sound else {}


def _write_note(repository: Repository, note: dict[str, Any]) -> None:
    if repository.revision and not COMMIT.fullmatch(repository.revision):
        return
    write_whole(_note_path(repository), json.dumps(note), replace=True)


def require_library() -> Any:
    """huggingface_hub. Raises EnvironmentFault VIT-520."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        otherwise = "download the files by hand and give their folder."
        raise lacking(
            "a name of the form hf:OWNER/NAME", "huggingface_hub", "hub", otherwise
        ) from error
    return huggingface_hub


def _bars(progress: Progress | None, what: str, size: int) -> type:
    """A class that the library takes for a progress bar: draws nothing, tells `progress`."""

    class Bar:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.done = initial

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            if progress and 0 <= self.done <= size:
                progress(what, self.done, size)

        def close(self) -> None:
            pass

    return Bar


def _closed(repository: Repository, error: Exception, is_gated: bool) -> ModelError:
    if is_gated:
        text, hint = "asks to accept its conditions", "Accept them on its page, then log in"
    else:
        text, hint = "does not exist, or is private", "Check the spelling; for a private one log in"
    return ModelError(
        "VIT-465",
        f"{repository} {text}: {_first_line(error)}",
        hint=f"{hint}: hf auth login",
    )


def no_connection(repository: Repository, error: Exception) -> VitrailError:
    return EnvironmentFault(
        "VIT-530",
        f"no connection to the Hugging Face hub for {repository}: {_first_line(error)}",
        hint=f"Check the network, HTTPS_PROXY and HF_HUB_OFFLINE. {_by_hand(repository)}",
    )


def _by_hand(repository: Repository) -> str:
    return (
        "Or download config.json and model.safetensors by hand into one folder and give it: "
        f"https://huggingface.co/{repository.name}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
