"""The reference in docs/python.md, written from signatures and docstrings: `make docs-python`.

Everything between two marks is replaced; a test compares the page with what this would write.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import vitrail
from vitrail.api.options import LoadOptions, MachineOptions, Machines, TrainOptions
from vitrail.api.serving import ServeOptions
from vitrail.callable_folder import CallableFolder

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BEGIN, END = "<!-- reference: written by make docs-python -->\n", "<!-- end -->"
FUNCTIONS = (
    *("train", "resume", "load", "predict", "predict_table", "probe", "compare", "study", "tune"),
    *("lr_find", "report", "runs", "check_data", "split_data", "show_data", "get_data"),
    *("shard_data", "index_data", "models", "weights", "download", "inspect_checkpoint"),
    *("convert", "export", "push", "explain_sheets", "model_figures", "faithfulness"),
    *("serve", "doctor", "replay", "open_data", "create_model"),
)
RESULTS = (
    *("Classifier", "Prediction", "Evaluation", "Explanation", "Probe", "RunResult", "Runs"),
    *("StudyResult", "LrFind", "DataCheck", "Inspection", "Conversion", "Exported", "Pushed"),
    *("Sheets", "FigureFiles", "Faithfulness", "Replay", "Serving"),
)
OPTIONS = {  # of which functions
    "train, lr_find and tune": TrainOptions,
    "predict, predict_table, probe, explain_sheets, model_figures and faithfulness": LoadOptions,
    "serve": ServeOptions,
}
COMMANDS = {  # what does from Python what a command does
    "train": "train resume",
    "eval": "Classifier.evaluate",
    "probe": "probe Classifier.probe",
    "predict": "predict predict_table Classifier.predict",
    "compare": "compare",
    "study": "study",
    "convert": "convert",
    "export": "export",
    "push": "push",
    "explain": "Classifier.explain explain_sheets model_figures faithfulness",
    "serve": "serve",
    "report": "report",
    "data": "check_data split_data show_data shard_data index_data get_data",
    "models": "models weights download inspect_checkpoint",
    "runs": "runs",
    "lr-find": "lr_find",
    "tune": "tune",
    "doctor": "doctor replay",
}
RECORDS = ("Preprocess", "TrainConfig", "ViTConfig")  # whose fields are told elsewhere
# For the package itself.
INNER = ("computed_by_torch", "torch_runtime", "measuring", "rows", "description")


def page(text: str) -> str:
    """`text` of docs/python.md with the reference as the code has it."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(reference()) + "\n" + END + rest.partition(END)[2]


def reference() -> Iterator[str]:
    """Commands, functions, then what they give, then records of settings."""
    yield "## Commands\n\n| command | Python |\n|---|---|"
    for verb, names in COMMANDS.items():
        calls = ", ".join(f"`{name}`" for name in names.split())
        yield f"| `vitrail {verb}` | {calls} |"
    yield ""
    yield "## Functions\n"
    for name in FUNCTIONS:
        found = getattr(vitrail, name)
        function = found.function if isinstance(found, CallableFolder) else found
        yield f"### vitrail.{name}\n\n{signature(f'vitrail.{name}', function)}"
        yield prose(function)
    for of, options in OPTIONS.items():
        yield f"## Options of {of}\n"
        yield prose(options) + table(options.__annotations__)
    yield "## Options of compare and study\n"
    yield table(MachineOptions.__annotations__, dataclasses.asdict(Machines()))
    yield "## Results\n"
    for name in RESULTS:
        yield from described(name, getattr(vitrail, name))
    yield "## Records\n"
    for name in RECORDS:
        yield f"### vitrail.{name}\n\n{prose(getattr(vitrail, name))}"


def described(name: str, kind: Any) -> Iterator[str]:
    """A class: what it is, its fields, properties and methods."""
    yield f"### vitrail.{name}\n\n{prose(kind)}"
    rows = []
    if dataclasses.is_dataclass(kind):
        rows += [(one.name, typed(one.type), "") for one in dataclasses.fields(kind)]
    for own, value in members(kind):
        if isinstance(value, property) or not callable(value):
            function = getattr(value, "fget", None) or getattr(value, "func", None)
            if function is None:
                continue
            result = typed(inspect.signature(function).return_annotation)
            rows.append((own, result, first_sentence(function)))
        else:
            arguments = ", ".join(list(inspect.signature(value).parameters)[1:])
            result = typed(inspect.signature(value).return_annotation)
            rows.append((f"{own}({arguments})", result, first_sentence(value)))
    if rows:
        yield "| member | type | |\n|---|---|---|"
        lines = (f"| `{own}` | `{cell(type_)}` | {cell(text)} |" for own, type_, text in rows)
        yield "\n".join(lines) + "\n"


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public attributes of our own classes, those of the base first, in the order of the code."""
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("vitrail."):
            for own, value in vars(base).items():
                value = value.__func__ if isinstance(value, classmethod) else value
                if not own.startswith("_") and own not in INNER and inspect.getdoc(value):
                    if not isinstance(value, type | str | int | float | tuple | dict):
                        yield own, value


def signature(name: str, function: Callable[..., Any]) -> str:
    """The call as a block of code, an argument a line."""
    found = inspect.signature(function)
    if not found.parameters:
        return f"```python\n{name}() -> {typed(found.return_annotation)}\n```\n"
    lines, has_star = [f"{name}("], False
    shown = [one for one in found.parameters.values() if one.default is not ...]
    for one in shown:
        has_star = has_star or one.kind is one.VAR_POSITIONAL
        if one.kind is one.KEYWORD_ONLY and not has_star:
            lines, has_star = [*lines, "    *,"], True
        stars = "**" if one.kind is one.VAR_KEYWORD else ""
        stars = "*" if one.kind is one.VAR_POSITIONAL else stars
        default = "" if one.default is one.empty else f" = {plain(one.default)}"
        lines.append(f"    {stars}{one.name}: {typed(one.annotation)}{default},")
    if len(shown) < len(found.parameters):
        lines.append("    **options,")
    lines.append(f") -> {typed(found.return_annotation)}")
    return "```python\n" + "\n".join(lines) + "\n```\n"


def plain(value: object) -> str:
    """A default as it is typed; ... for one that cannot be."""
    if isinstance(value, Path):
        return repr(str(value))
    return repr(value) if isinstance(value, str | int | float | tuple | None) else "..."


def typed(annotation: Any) -> str:
    """A type as the code has it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return "" if annotation is inspect.Signature.empty else " ".join(text.split())


def prose(documented: Any) -> str:
    """A docstring as paragraphs."""
    text = inspect.cleandoc(documented.__doc__ or "")
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(parts) + "\n"


def first_sentence(function: Any) -> str:
    """The first paragraph of a docstring, for a cell."""
    return prose(function).split("\n\n")[0].strip()


def cell(text: str) -> str:
    """Text of one cell."""
    return text.replace("|", "\\|")


def table(annotations: dict[str, Any], defaults: dict[str, Any] | None = None) -> str:
    """Names and types, with defaults where they are known."""
    head = "\n| option | type |" + (" default |" if defaults else "")
    lines = [head, "|---|---|" + ("---|" if defaults else "")]
    for name, hint in annotations.items():
        hint = getattr(hint, "__forward_arg__", hint)
        kind = cell(typed(hint))
        more = f" `{defaults[name]!r}` |" if defaults else ""
        lines.append(f"| `{name}` | `{kind}` |{more}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
