"""A function in several processes that train together, forked from the test, met through a file."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrail.training.ranks.launch import STORE
from vitrail.training.ranks.ranks import Ranks, joined

SECS = 90.0


def in_ranks(folder: Path, world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` gives on each rank; an exception where it raised one."""
    context = multiprocessing.get_context("fork")
    store = folder / f"store-{os.urandom(4).hex()}"
    pipes, processes = [], []
    for rank in range(world):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, str(store), Ranks(rank, world, rank, world), work)
        processes.append(context.Process(target=_work, args=arguments, daemon=True))
        pipes.append(ours)
        processes[-1].start()
        theirs.close()
    try:
        found = []
        for pipe in pipes:
            try:
                answer, notes = pipe.recv() if pipe.poll(SECS) else (TimeoutError(SECS), ())
                for note in notes:  # which pickle leaves out
                    answer.add_note(note)
                found.append(answer)
            except EOFError as error:
                found.append(error)
        return found
    finally:
        for process in processes:
            process.kill()
            process.join()


def _work(pipe: Any, store: str, ranks: Ranks, work: Callable[[Ranks], Any]) -> None:
    os.environ |= {STORE: store, "GLOO_SOCKET_IFNAME": "lo"}
    try:
        with joined(ranks):
            answer = work(ranks)
    except BaseException as error:
        traceback.print_exc()
        answer = error
    pipe.send((answer, getattr(answer, "__notes__", ())))
    pipe.close()
