"""The commit that the working directory is at, read from .git by hand.

git itself runs what a repository's own config names (core.fsmonitor, filters, hooks): a downloaded
folder would run code because a run was started in it. Here small plain files are read, no link is
followed, and the answer is a hash or nothing. Whether files differ from the commit is not told:
finding out takes those commands.

A worktree or submodule has a file .git that names a folder elsewhere. It is believed where that
folder belongs to it: it names the worktree in return, or lies in .git/modules of a folder above.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vitrail.folder import Folder

HASH = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\s*")
BRANCH = re.compile(rb"ref: (refs/[\w./+@-]{1,250})\s*")
SMALL, PACKED = 4096, 16 << 20  # bytes of a file that names one commit, and of all of them


def git_commit(folder: Path | None = None) -> str | None:
    """The first 12 digits of the commit of `folder` (the working directory); None without one."""
    try:
        start = (folder or Path.cwd()).absolute()
        near = (at / ".git" for at in (start, *start.parents))
        git = next((place for place in near if os.path.lexists(place)), None)
        found = _commit(*_folders(git)) if git is not None else b""
    except (OSError, ValueError):  # ValueError: a name that is no path
        return None
    return found[:12].decode("ascii") or None


def _commit(head: Folder, shared: Folder) -> bytes:
    """head: where HEAD lies; shared: where the branches lie, the same but for a worktree."""
    text = _read(head, "HEAD")
    if found := HASH.fullmatch(text):
        return found[1]
    branch = BRANCH.fullmatch(text)
    if branch is None or b".." in branch[1]:
        return b""
    loose = HASH.fullmatch(_read(shared, branch[1].decode("ascii")))
    return loose[1] if loose else _packed(shared, branch[1])


def _folders(git: Path) -> tuple[Folder, Folder]:
    """The folders that `.git` stands for. Raises ValueError where it stands for none."""
    if stat.S_ISDIR(git.lstat().st_mode):
        return Folder(git), Folder(git)
    text = _read(Folder(git.parent), git.name)
    if not text.startswith(b"gitdir: "):
        raise ValueError("not a repository")
    named = os.fsdecode(text.removeprefix(b"gitdir: ").rstrip(b"\n"))
    place = Path(os.path.normpath(git.parent / named))
    if any(place.is_relative_to(above / ".git" / "modules") for above in git.parent.parents):
        return Folder(place), Folder(place)
    if place.parts[-3:-1] != (".git", "worktrees"):
        raise ValueError("neither a worktree nor a submodule")
    if _read(Folder(place), "gitdir").rstrip(b"\n") != os.fsencode(git):
        raise ValueError("a worktree that is not known there")
    return Folder(place), Folder(place.parents[1])


def _packed(place: Folder, branch: bytes) -> bytes:
    text = _read(place, "packed-refs", PACKED)
    line = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(branch) + rb"$", text, re.MULTILINE)
    return line[1] if line else b""


def _read(folder: Folder, name: str, limit: int = SMALL) -> bytes:
    """A small plain file; nothing where it is absent, larger, or something else."""
    try:
        return folder.read(name, limit)
    except OSError:
        return b""
