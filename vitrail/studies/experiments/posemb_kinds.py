"""Which position embedding? (arXiv 2010.11929, appendix D.4, Table 8)

None, learned 1-D, learned 2-D, and relative offsets; the learned ones added behind the stem, to the
input of every layer, or to that of every layer from one shared table. The fixed 2-D table of later
work stands beside them. The relative one is the paper's: an extra attention over offsets.

Full scale: ViT-B/16 on JFT, 5-shot ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.comparison import sentence, shown
from vitrail.studies.experiments.families import one_vit
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import Difference, difference, in_words, points, series
from vitrail.studies.setup import Setup

NONE = "none"
KINDS = {"1-D": "learned", "2-D": "learned_2d", "relative": "relative", "fixed 2-D": "sincos_2d"}
PLACES = {"stem": "stem", "every layer": "every", "every layer, shared": "shared"}
WHERE_MATTERS = ("1-D", "2-D")
CLAIM = (
    "Position embeddings matter, but their kind hardly does: none 0.614, 1-D 0.642, 2-D 0.640, "
    "relative 0.640 (5-shot ImageNet), wherever they are added."
)
LIMITS = (
    "Grids of this size have few positions; on larger ones kinds may differ more.",
    "A short training favours embeddings that need no learning (the fixed table) and punishes "
    "tables that do.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x (none, kinds x places)."""
    return [
        from_scratch(
            setup, arm, {"where": where}, {**one_vit(setup), **fields}, setup.examples, seed
        )
        for seed in setup.seeds
        for arm, where, fields in _arms()
    ]


def _arms() -> list[tuple[str, str, dict[str, str]]]:
    found = [(NONE, "stem", {"model.posemb": "none"})]
    for arm, kind in KINDS.items():
        for where, name in PLACES.items():
            if name == "stem":
                found.append((arm, where, {"model.posemb": kind}))
            elif arm in WHERE_MATTERS:
                found.append((arm, where, {"model.posemb": kind, "model.posemb_at": name}))
    return found


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Every kind against none, the kinds against one another."""
    done = [row for row in rows if row.values]
    return Outcome(
        _verdict(done),
        [_figure(done)],
        {"Test top-1 (paper: 5-shot ImageNet)": _table(done)},
        {"paper": PAPER},
    )


# Table 8.
PAPER = {
    NONE: {"stem": 0.61382},
    "1-D": {"stem": 0.64206, "every layer": 0.63964, "every layer, shared": 0.64292},
    "2-D": {"stem": 0.64001, "every layer": 0.64046, "every layer, shared": 0.64022},
    "relative": {"stem": 0.64032},
}


def _table(rows: Sequence[Row]) -> list[list[str]]:
    lines = points(rows, "test/top1", "where")
    body = []
    for arm, line in lines.items():
        for point in line:
            paper = PAPER.get(arm, {}).get(str(point.x))
            body.append([arm, str(point.x), shown(point), f"{paper:.4f}" if paper else "-"])
    return [["embedding", "where", "test top-1", "paper"], *body]


def _figure(rows: Sequence[Row]) -> Figure:
    lines = points(rows, "test/top1", "where")
    places = list(PLACES)
    return Figure(
        "posemb",
        "Test top-1 by position embedding",
        "added to",
        "top-1",
        [
            series(arm, line, colour=place, kind="marks", x_labels=places)
            for place, (arm, line) in enumerate(lines.items())
        ],
        x_labels=places,
        note="Mean over seeds with its 95 % interval (Student).",
    )


def _verdict(rows: Sequence[Row]) -> Verdict:
    at_stem = [row for row in rows if row.axes["where"] == "stem"]
    arms = [arm for arm in KINDS if any(row.arm == arm for row in at_stem)]
    if not arms or not any(row.arm == NONE for row in at_stem):
        answer, evidence = "No result: too few finished runs.", list[str]()
    else:
        over = {arm: difference(at_stem, arm, NONE, "test/top1") for arm in arms}
        answer = _answer(over)
        evidence = [sentence(in_words(gap, arm, NONE)) for arm, gap in over.items()]
        evidence += [
            sentence(in_words(difference(at_stem, arm, "1-D", "test/top1"), arm, "1-D"))
            for arm in arms
            if arm != "1-D" and "1-D" in arms
        ]
        evidence += _places(rows)
    return Verdict(answer, CLAIM, "arXiv 2010.11929, appendix D.4, Table 8", evidence, LIMITS)


def _answer(over: dict[str, Difference]) -> str:
    clear = [arm for arm, gap in over.items() if gap.is_clear and gap.mean > 0]
    worse = [arm for arm, gap in over.items() if gap.is_clear and gap.mean < 0]
    rest = [arm for arm in over if arm not in (*clear, *worse)]
    least = min((over[arm].mean for arm in clear), default=0.0)
    most = max((over[arm].mean for arm in clear), default=0.0)
    said = []
    if clear:
        by = f"{100 * least:.1f} to {100 * most:.1f} points"
        said.append(f"Better than none, by {by}: {', '.join(clear)}.")
    if worse:
        said.append(f"Worse than none: {', '.join(worse)}.")
    if rest:
        said.append(f"No evidence of a difference to none: {', '.join(rest)}.")
    return " ".join(said)


def _places(rows: Sequence[Row]) -> list[str]:
    """Where a table is added, against behind the stem."""
    found = []
    for arm in WHERE_MATTERS:
        for where in list(PLACES)[1:]:
            here = [row for row in rows if row.arm == arm and row.axes["where"] in (where, "stem")]
            renamed = [row.seen_as(str(row.axes["where"])) for row in here]
            if {where, "stem"} <= {row.arm for row in renamed}:
                gap = difference(renamed, where, "stem", "test/top1")
                found.append(f"{arm}: {in_words(gap, where, 'stem')}.")
    return found


STUDY = Study(
    name="posemb",
    title="Which position embedding, and where",
    claim=CLAIM,
    source="arXiv 2010.11929, appendix D.4",
    cells=cells,
    outcome=outcome,
    full="ViT-B/16 on JFT, none / 1-D / 2-D / relative x stem / every layer / shared",
)
