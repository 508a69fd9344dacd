"""A model in a repository of the Hugging Face hub, from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.checkpoints.hub.hf_download import parse_repository
from vitrail.checkpoints.hub.hf_upload import Sent, files_of, read_token, send, sha256_of
from vitrail.errors import UsageError
from vitrail.notebook import Shown


@dataclass(frozen=True)
class Pushed(Shown):
    """What goes to a repository. files: names, places and sizes in bytes; sha256: by name; url: of
    the repository once they are sent, None before.
    """

    repository: str
    private: bool
    files: tuple[Sent, ...]
    sha256: dict[str, str]
    url: str | None = None

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        who = "private" if self.private else "public"
        sent = "not sent" if self.url is None else f"sent: {self.url}"
        return [
            ("repository", f"{self.repository}, {who} if it is new"),
            *((one.name, f"{one.size / 1e6:,.1f} MB") for one in self.files),
            ("state", sent),
        ]

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail push --json`."""
        record: dict[str, Any] = {"repository": self.repository, "private": self.private}
        record["sent"] = self.url is not None
        record["files"] = [
            {"name": one.name, "bytes": one.size, "sha256": self.sha256[one.name]}
            for one in self.files
        ]
        return record | ({"url": self.url} if self.url is not None else {})


def push(
    model: str | Path,
    name: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    token_file: str | Path | None = None,
    endpoint: str | None = None,
) -> Pushed:
    """Send weights, card and export of a model to the Hugging Face hub, as `vitrail push`.

    model: a run, a model folder or an export. name: OWNER/NAME, made where it is not there. Nobody
    is asked, so say what is meant: dry_run=True tells what would be sent, yes=True sends it.
    private: a new repository that only its owner sees. token_file: a file with a token that may
    write, mode 600; that of HF_TOKEN or `hf auth login` unless given. endpoint: another hub.

    Raises UsageError VIT-202, VIT-299 where neither dry_run nor yes was said; ModelError VIT-446,
    VIT-464, VIT-465; EnvironmentFault VIT-520, VIT-526, VIT-530, VIT-531.
    """
    plan = plan_push(Path(model), name, private=private)
    if dry_run:
        return plan
    if not yes:
        raise UsageError(
            "VIT-299",
            f"nothing was sent to {plan.repository}: it was not said that these files may be sent.",
            hint="Look at them with dry_run=True, then say yes=True",
        )
    return sent(plan, read_token(None if token_file is None else Path(token_file)), endpoint)


def plan_push(model: Path, name: str, *, private: bool) -> Pushed:
    """What would be sent. Raises UsageError VIT-202, ModelError VIT-446, VIT-464."""
    repository = parse_repository(name)
    if repository.revision:
        raise UsageError(
            "VIT-202", f"{name}: a model is sent to a repository, not to a revision of it."
        )
    files = files_of(model)
    return Pushed(repository.name, private, tuple(files), sha256_of(files))


def sent(plan: Pushed, token: str, endpoint: str | None = None) -> Pushed:
    """Send it; with the address. Raises what `send` raises."""
    url = send(list(plan.files), plan.repository, token, private=plan.private, endpoint=endpoint)
    return Pushed(plan.repository, plan.private, plan.files, plan.sha256, url)
