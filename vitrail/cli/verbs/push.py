"""`vitrail push MODEL OWNER/NAME`: a model in a repository of the Hugging Face hub.

Nothing is sent before somebody has seen what and agreed: at the prompt, or with --yes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.errors import UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.checkpoints.hub.hf_upload import Sent

app = app_of("vitrail push")


@app.default
def push(
    model: Path,
    name: str,
    /,
    *,
    private: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(negative=())] = False,
    token_file: Path | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Send a model to the Hugging Face hub: weights, card and export.

    Parameters
    ----------
    model
        A run, a model directory or an export.
    name
        The repository, OWNER/NAME; made where it is not there.
    private
        Make a repository that only its owner sees.
    dry_run
        Show what would be sent, and stop.
    yes
        Send without asking, for scripts.
    token_file
        File with a token that may write; mode 600. Default: HF_TOKEN, or that of hf auth login.
    """
    from vitrail.api.hub_push import plan_push, sent
    from vitrail.checkpoints.hub.hf_upload import read_token

    plan = plan_push(model, name, private=private)
    lines = lines_of(plan.files, name, private)
    if dry_run:
        output.result(plan.to_json(), lines)
        return 0
    token = read_token(token_file)
    for line in lines:
        output.note(line)
    if not yes:
        require_consent(output)
    done = sent(plan, token)
    output.result(done.to_json(), [f"sent to {done.url}"])
    return 0


def lines_of(files: Sequence[Sent], name: str, private: bool) -> list[str]:
    """What is sent, for people."""
    rows = [(one.name, f"{one.size:,}") for one in files]
    total = sum(one.size for one in files)
    kind = "private, if it is new" if private else "public, if it is new"
    return [
        f"to {name} ({kind}): {count(len(files), 'file')}, {total / 1e6:.1f} MB",
        *table([("file", "bytes"), *rows]),
    ]


def require_consent(output: Output) -> None:
    """Ask. Raises UsageError VIT-299 where nobody can be asked or the answer is no."""
    if output.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "VIT-299",
            "nothing was sent: there is nobody to ask whether these files may be sent.",
            hint="Look at them with --dry-run, then add --yes",
        )
    sys.stderr.write("send these files? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("VIT-299", "nothing was sent.", hint="Answer y, or add --yes")
