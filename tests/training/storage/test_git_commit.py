"""The commit of a folder, read without running anything of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vitrail.training.storage.git_commit import git_commit

pytestmark = [
    pytest.mark.promise("M7"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
HASH = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **quiet},
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    (place / "a").write_text("a")
    git(place, "add", "a")
    git(place, "commit", "-qm", "a")
    return place


def test_a_branch_loose_and_packed_a_tag_and_a_folder_below(repository: Path) -> None:
    expected = git(repository, "rev-parse", "HEAD")[:12]
    assert git_commit(repository) == expected
    (repository / "deep" / "er").mkdir(parents=True)
    assert git_commit(repository / "deep" / "er") == expected
    git(repository, "pack-refs", "--all", "--prune")
    assert git_commit(repository) == expected
    git(repository, "checkout", "-q", "--detach")
    assert git_commit(repository) == expected


def test_a_worktree_and_a_submodule(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    (tmp_path / "tree" / "b").write_text("b")
    git(tmp_path / "tree", "add", "b")
    git(tmp_path / "tree", "commit", "-qm", "b")
    assert git_commit(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD")[:12]
    assert git_commit(tmp_path / "tree") != git_commit(repository)
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository), "sub")
    assert git_commit(outer / "sub") == git(repository, "rev-parse", "HEAD")[:12]


def test_no_repository_no_commit_yet_and_a_folder_that_is_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".git").mkdir()
    assert git_commit(empty) is None
    git(tmp_path, "init", "-q", "fresh")
    assert git_commit(tmp_path / "fresh") is None


def test_nothing_of_a_hostile_repository_is_run(repository: Path, tmp_path: Path) -> None:
    evil = repository / ".git" / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/RAN\n")
    evil.chmod(0o755)
    for key in ("core.fsmonitor", "core.sshCommand", "filter.evil.clean", "core.pager"):
        git(repository, "config", key, str(evil))
    shutil.copy(evil, repository / ".git" / "hooks" / "post-index-change")
    (repository / ".gitattributes").write_text("a filter=evil\n")
    os.utime(repository / "a", (1, 1))
    (tmp_path / "RAN").unlink(missing_ok=True)
    assert git_commit(repository)
    assert not (tmp_path / "RAN").exists()


@pytest.mark.timeout(20)
def test_links_pipes_and_pointers_out_of_it_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "refs" / "heads").mkdir(parents=True)
    for name in ("HEAD", "refs/heads/main", "secret"):
        (victim / name).write_text(HASH)
    for number, make in enumerate(HOSTILE):
        place = tmp_path / f"hostile-{number}"
        place.mkdir()
        make(place, victim)
        assert git_commit(place) is None, make


def _link(place: Path, victim: Path) -> None:
    (place / ".git").symlink_to(victim)


def _linked_head(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").symlink_to(victim / "HEAD")


def _linked_refs(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (place / ".git" / "refs").symlink_to(victim / "refs")


def _climbing_branch(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_text("ref: refs/../../../victim/secret\n")


def _pointer(place: Path, victim: Path) -> None:
    (place / ".git").write_text(f"gitdir: {victim}\n")


def _pipes(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    os.mkfifo(place / ".git" / "HEAD")


def _pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place / ".git")


def _packed_pipe(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    os.mkfifo(place / ".git" / "packed-refs")


def _strange(place: Path, victim: Path) -> None:
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_bytes(b"ref: refs/heads/\xff\x00\n" * 1000)


def _strange_pointer(place: Path, victim: Path) -> None:
    (place / ".git").write_bytes(b"gitdir: a\x00b\n")


HOSTILE = (
    _link,
    _linked_head,
    _linked_refs,
    _climbing_branch,
    _pointer,
    _pipes,
    _pipe,
    _packed_pipe,
    _strange,
    _strange_pointer,
)
