"""A model of vitrail in a repository of the Hugging Face hub, through its own library (extra hub).

Sent are the files of the model and, where it lies in its folder, of its export; never what says
which images it was trained on. Other files of the repository stay.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vitrail.checkpoints.hub.hf_download import no_connection, parse_repository, require_library
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.folder import Folder, open_plain
from vitrail.model_folder.export_record import EXPORT, is_export, read_export

MODEL = ("README.md", "model.json", "model.safetensors")
EXPORTED = (
    *("README.md", "model.json", EXPORT, "classes.txt", "preprocess.json"),
    *("config.json", "preprocessor_config.json", "onnx/model.onnx"),
)
MAX_TOKEN_BYTES = 1000


@dataclass(frozen=True)
class Sent:
    """A file: its name in the repository, where it lies, how large it is."""

    name: str
    path: Path
    size: int


def files_of(place: Path) -> list[Sent]:
    """What is sent of a model folder, an export, or a run: its model, and its export with the card
    that knows both. Sorted by name.

    Raises ModelError VIT-446 where there is no model of vitrail; VIT-471, VIT-472 for an export
    that is damaged or of other weights.
    """
    found: dict[str, Path] = {}
    for folder in (place / "model", place):
        if Folder(folder).has("model.safetensors") and Folder(folder).has("model.json"):
            found |= {name: folder / name for name in MODEL if Folder(folder).has(name)}
            break
    for folder in (place, place / "export"):
        if is_export(folder):
            file = read_export(folder).about.file.name
            if file.endswith(".pt2"):
                continue  # a pickle is never sent
            names = [name for name in (*EXPORTED, file) if Folder(folder).has(name)]
            found |= {name: folder / name for name in names}
            break
    if not {"model.json", "README.md"} <= set(found):
        raise ModelError(
            "VIT-446",
            f"{place} is no model of vitrail that can be sent: expected a run with a model, a "
            "model folder or an export.",
            hint="Another library's checkpoint is made one first: vitrail convert IN OUT "
            "--to vitrail",
        )
    return [Sent(name, path, path.stat().st_size) for name, path in sorted(found.items())]


def sha256_of(files: list[Sent]) -> dict[str, str]:
    """Name -> sha256 of each file."""
    found = {}
    for one in files:
        with open(one.path, "rb") as stream:
            found[one.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def read_token(path: Path | None) -> str:
    """The token in a file that only its owner reads; without one, of HF_TOKEN or `hf auth login`.

    Raises EnvironmentFault VIT-526, VIT-520.
    """
    if path is None:
        token = require_library().get_token()
        if not token:
            raise _no_token("there is no token for the hub")
        return str(token)
    try:
        with os.fdopen(open_plain(path, links=True), "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise _no_token(f"{path} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _no_token(f"{path} can be read by others: chmod 600 {path}")
    if not text or not text.isprintable() or " " in text:
        raise _no_token(f"{path} holds no token")
    return text


def _no_token(why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-526",
        f"{why}.",
        hint="hf auth login; or HF_TOKEN, or --token-file FILE, with a token that may write.",
    )


def send(
    files: list[Sent], name: str, token: str, *, private: bool, endpoint: str | None = None
) -> str:
    """Send everything as one commit to OWNER/NAME, made where it is not there; its address.

    Raises ModelError VIT-464, VIT-465; EnvironmentFault VIT-520, VIT-530, VIT-531.
    """
    repository, hub = parse_repository(name), require_library()
    errors = hub.errors
    try:
        api = hub.HfApi(endpoint=endpoint, token=token, library_name="vitrail")
        api.create_repo(repository.name, private=private or None, exist_ok=True)
        added = [
            hub.CommitOperationAdd(path_in_repo=one.name, path_or_fileobj=one.path) for one in files
        ]
        made = api.create_commit(repository.name, added, commit_message="A model of vitrail")
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            "VIT-465",
            f"{repository}: there is no such owner, or the token may not write there.",
            hint="Check the spelling, and the rights of the token",
        ) from error
    except errors.HfHubHTTPError as error:
        raise EnvironmentFault(
            "VIT-531",
            f"{repository}: {str(error).splitlines()[0] if str(error) else 'refused'}",
            hint="Check the token's rights: hf auth whoami",
        ) from error
    except (errors.HTTPError, OSError) as error:
        raise no_connection(repository, error) from error
    return str(made.repo_url.url if hasattr(made.repo_url, "url") else made.commit_url)
