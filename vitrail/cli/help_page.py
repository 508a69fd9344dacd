"""Help of a verb: its arguments and grouped options with type, default and choices, and examples.

Read from the parser and from the declarations of settings; shown by `vitrail VERB --help`, the man
page and the completion of shells.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, get_args

from vitrail.cli.registry import EXAMPLES, VERBS, Verb, commands

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument

    from vitrail.cli.settings import Described

LEFT = 28  # columns of an option with its value, at most; longer ones have a line of their own
EVERYWHERE = "Everywhere: --json -q -v --no-color; see vitrail --help"
GLUE = "\N{NO-BREAK SPACE}"  # keeps a default together
OPTIMIZATION, FOREIGN = "Optimization", "Checkpoints of other libraries"
GROUPS = {  # title: options, whichever verb has them; others are in the group "Options"
    "Model": "--model --from --freeze --lora-rank --teacher --models",
    "Length (give one)": "--epochs --steps --time-limit --patience --budget --examples",
    OPTIMIZATION: "--recipe --batch-size --lr --ema --seed --seeds --accumulate",
    "Data": "--image-size --augment --val-fraction --test-fraction --split --on-bad-file "
    "--max-pixels --data --sizes --workers",
    "Hardware": "--device --precision --threads --processes --engine --ray-address --compile",
    "Output and control": "--out --name --save-every --resume --config --print-config --dry-run",
    FOREIGN: "--set --origin --table --map",
}
KINDS = {"int": "INT", "float": "FLOAT", "Path": "PATH", "str": "TEXT"}
VALUES = {  # what an option takes, in a word, where its type does not say it
    "--model": "NAME",
    "--models": "NAMES",
    "--from": "MODEL",
    "--teacher": "MODEL",
    "--against": "MODEL",
    "--features": "MODEL",
    "--recipe": "NAME",
    "--name": "NAME",
    "--out": "PATH",
    "--config": "FILE",
    "--map": "FILE",
    "--resume": "RUN",
    "--data": "DATA",
    "--images": "DATA",
    "--budget": "TIME",
    "--device": "DEVICE",
    "--set": "FIELD=VALUE",
    "--image-size": "PX",
}
SETTING_VALUES = (  # how a setting's values begin: the word for them
    ("whole number", "INT"),
    ("number", "FLOAT"),
    ("two numbers", "A,B"),
    ("time", "TIME"),
    ("path", "PATH"),
    ("text", "TEXT"),
    ("value", "VALUE"),
    ("true|false", ""),
)
SAID = ("from recipe", "required")  # in the place of a default
BY_RECIPE = ("--epochs", "--optim", "--schedule", "--augment", "--loss")


class Option(NamedTuple):
    """An option or argument. value: what it takes, "" for a switch; choices: all of them, or ()."""

    names: tuple[str, ...]
    value: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()

    @property
    def left(self) -> str:
        """Names and value, as typed."""
        return f"{', '.join(self.names)} {self.value}".rstrip()


class Page(NamedTuple):
    """Help of a verb or of one of its commands; name: "train" or "data check"."""

    name: str
    about: str
    arguments: list[Option]
    groups: dict[str, list[Option]]

    @property
    def usage(self) -> str:
        """The command line."""
        words = [one.value for one in self.arguments]
        return " ".join(["vitrail", self.name, *words, *["[OPTIONS]"] * bool(self.groups)])

    @property
    def examples(self) -> list[tuple[str, str]]:
        """Commands, and what each is for."""
        words = EXAMPLES.get(self.name, ())
        return [(f"vitrail {self.name} {one}".rstrip(), why) for one, why in words]

    @property
    def options(self) -> list[Option]:
        """Those of every group."""
        return [one for group in self.groups.values() for one in group]


def pages(verb: str, *, is_long: bool = False) -> list[Page]:
    """The pages of a verb. is_long: with every setting of a run, not only those of GROUPS."""
    entry = VERBS[verb]
    app = importlib.import_module(entry.module).app
    return [
        page_of(f"{verb} {part}".strip(), one, entry, is_long)
        for part, one in commands(app).items()
    ]


def parts(verb: str) -> list[str]:
    """The commands of a verb that has several."""
    return [one for one in commands(importlib.import_module(VERBS[verb].module).app) if one]


def page_of(name: str, app: App, verb: Verb, is_long: bool) -> Page:
    """The page of one parser."""
    doc = inspect.getdoc(app.default_command) or ""
    found = [
        option_of(one)
        for one in app.assemble_argument_collection(parse_docstring=True)
        if one.parse and one.show
    ]
    options = [one for one in found if one.names[0].startswith("-")]
    settings: dict[str, list[Option]] = {}
    if verb.takes_settings:
        from vitrail.cli.settings import sections

        settings = {title: [*map(setting_of, own)] for title, own in sections()}
        if not is_long:
            known = {word for words in GROUPS.values() for word in words.split()}
            every = [one for own in settings.values() for one in own]
            options += [one for one in map(shortened, every) if one.names[0] in known]
            settings = {}
    return Page(
        name,
        " ".join(doc.split("\n\nParameters\n")[0].split()),
        [one for one in found if not one.names[0].startswith("-")],
        {**grouped(options, verb.takes_settings), **settings},
    )


def grouped(options: Iterable[Option], is_training: bool) -> dict[str, list[Option]]:
    """The options by the titles of GROUPS, those of no group first."""
    groups: dict[str, list[Option]] = {"Options": [], **{title: [] for title in GROUPS}}
    places = {
        name: (title, at)
        for title, words in GROUPS.items()
        for at, name in enumerate(words.split())
    }
    for one in options:
        title = places.get(one.names[0], ("Options", 0))[0]
        groups[title if is_training or title != OPTIMIZATION else "Options"].append(one)
    for own in groups.values():
        own.sort(key=lambda one: places.get(one.names[0], ("", 0))[1])
    return {title: own for title, own in groups.items() if own}


def option_of(argument: Argument) -> Option:
    """An option or argument of the parser."""
    kind, field = argument.hint, argument.field_info
    is_open = any(one in get_args(kind) for one in (int, float, str))  # auto, or a number
    choices = () if is_open else tuple(map(str, argument.get_choices() or ()))
    meaning, default = split_default(argument.parameter.help or "")
    if not default and not any(field.default is one for one in (field.empty, None, False, ())):
        default = str(field.default)
    default = SAID[1] if argument.required else default
    name = argument.names[0]
    value = "|".join(choices) if choices else VALUES.get(name, kind_of(kind))
    if not name.startswith("-"):
        many = "..." if str(kind).startswith("tuple") else ""
        value, default = f"{name}{many}", default.removeprefix(SAID[1])
        value = value if argument.required else f"[{value}]"
    return Option(argument.names, "" if kind is bool else value, default, meaning, choices)


def kind_of(kind: object) -> str:
    """INT, FLOAT, PATH or TEXT."""
    inner = [one for one in get_args(kind) if one is not type(None)]
    if inner:
        return kind_of(inner[0])
    return KINDS.get(getattr(kind, "__name__", ""), "TEXT")


def split_default(text: str) -> tuple[str, str]:
    """(meaning, default) of a description that ends with "Default: ..."."""
    line = " ".join(text.split())
    meaning, found, default = line.partition(" Default: ")
    return (meaning, default.removesuffix(".")) if found else (line, "")


def setting_of(one: Described) -> Option:
    """A setting of a run; what a recipe decides is said to be "from recipe"."""
    words = one.values.removesuffix(" or auto")
    is_list = re.fullmatch(r"[\w.]+(\|[\w.]+)+", words) and words != "true|false"
    value = next((word for start, word in SETTING_VALUES if words.startswith(start)), words)
    choices = tuple(words.split("|")) if is_list else ()
    by_recipe = one.options[0].startswith(BY_RECIPE)
    default = "from recipe" if by_recipe else one.built_in * (one.built_in != "false")
    if value == "TIME" and default:
        default = f"{float(default) / 60:g}m"
    return Option(one.options, value, default, one.meaning, choices)


def shortened(one: Option) -> Option:
    """A setting by its short name, as the short page has it."""
    name = one.names[-1]
    value = VALUES.get(name, one.value)
    return one._replace(names=(name,), value=value)


def help_lines(verb: str, width: int, *, part: str = "", is_long: bool = False) -> list[str]:
    """The help of a verb, or of its command `part`, at most `width` columns wide."""
    found = pages(verb, is_long=is_long)
    if not part and len(found) > 1:
        return overview(verb, found, width)
    page = next(one for one in found if one.name == f"{verb} {part}".strip())
    lines = ["Usage: " + page.usage, "", *textwrap.wrap(page.about, width), "", "Examples:"]
    room = max((len(words) for words, _ in page.examples if len(words) <= width // 2), default=0)
    for words, why in page.examples:
        line = f"  {words:<{room}}   {why}".rstrip()
        lines += [line] if len(line) <= width else [f"  {words}", f"      {why}"]
    for title, options in {"Arguments": page.arguments, **page.groups}.items():
        if options:
            lines += ["", *textwrap.wrap(title, width), *rows(options, width)]
    if VERBS[verb].takes_settings and not is_long:
        lines += ["", f"All settings of a run: vitrail {verb} --help -v, or docs/cli.md."]
    elif is_long:
        lines += ["", "All of them with the values of a run: vitrail train DATA --print-config"]
    return [*lines, "", EVERYWHERE]


def overview(verb: str, found: Sequence[Page], width: int) -> list[str]:
    """The commands of a verb that has several."""
    options = [Option((one.name.removeprefix(f"{verb} "),), "", "", one.about) for one in found]
    return [
        f"Usage: vitrail {verb} COMMAND",
        "",
        f"Commands (vitrail {verb} COMMAND --help):",
        *rows(options, width),
        "",
        EVERYWHERE,
    ]


def rows(options: Sequence[Option], width: int) -> list[str]:
    """Two columns: what is typed, and what it means with its default."""
    lefts = [len(left_of(one)) for one in options]
    column = 2 + max((one for one in lefts if one <= LEFT), default=LEFT)
    lines = []
    for one in options:
        default = f"[default: {one.default}]" if one.default else ""
        if one.default in SAID:
            default = f"[{one.default}]"
        glued = default.replace(" ", GLUE) if len(default) < width - column else default
        text = textwrap.wrap(
            f"{one.meaning} {glued}".strip() or "-",
            width - column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        left = left_of(one)
        if len(left) > column - 2:
            lines += textwrap.wrap(left, width, subsequent_indent="      ", break_on_hyphens=False)
            left = ""
        lines += [f"{left if not at else '':<{column}}{line}" for at, line in enumerate(text)]
    return [line.replace(GLUE, " ").rstrip() for line in lines]


def left_of(one: Option) -> str:
    """What is typed, indented."""
    is_option = one.names[0].startswith("-")
    return f"  {one.left if is_option else one.names[0]}"


def all_pages() -> list[Page]:
    """Every page, in the order of the verbs, with every setting."""
    return [page for verb in VERBS for page in pages(verb, is_long=True)]
