"""Colours of figures and pages, in light and in dark, and what a mark of a kind looks like.

Colours one to seven keep apart under every kind of colour vision and from the background (WCAG
1.4.11); a marker, a dash or a word always goes with them.
"""

from __future__ import annotations

from collections.abc import Mapping

COLOURS = {  # light, dark
    "bg": ("#fbfaf8", "#121418"),
    "panel": ("#ffffff", "#1a1d22"),
    "fg": ("#1c1e22", "#e9eaec"),
    "muted": ("#5e646e", "#9ba3ae"),
    "line": ("#e0ded8", "#2e333b"),
    "soft": ("#f1efea", "#22262d"),
    "on": ("#ffffff", "#101216"),  # letters on a full colour
    "one": ("#0a62a9", "#6bb5f0"),
    "two": ("#b8430b", "#f39a58"),
    "three": ("#00755b", "#4dc8a5"),
    "four": ("#8e4585", "#d596cc"),
    "five": ("#9a6f00", "#d9b13b"),
    "six": ("#2f87bd", "#9cd3f7"),
    "seven": ("#4a4f57", "#b9c0ca"),
}
PAPER = {"bg": "#ffffff", "fg": "#000000", "muted": "#444444", "line": "#cccccc", "soft": "#f4f4f4"}
SERIES = ("one", "two", "three", "four", "five", "six", "seven")  # s1 f1, s2 f2 ...
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif'
FONT_PX, TITLE_PX = 11, 14

Look = Mapping[str, str]  # properties of SVG; colours by name
KINDS: dict[str, Look] = {
    "gridline": {"stroke": "line", "stroke-width": "1"},
    "axis": {"stroke": "muted", "stroke-width": "1"},
    "line": {
        "fill": "none",
        "stroke-width": "2",
        "stroke-linejoin": "round",
        "stroke-linecap": "round",
    },
    **{f"s{i}": {"stroke": colour} for i, colour in enumerate(SERIES, 1)},
    **{f"f{i}": {"fill": colour} for i, colour in enumerate(SERIES, 1)},
    "soft": {"fill": "soft"},
    "ground": {"fill": "panel"},
    "hollow": {"fill": "panel", "stroke-width": "2"},
    "cell": {"stroke": "panel", "stroke-width": "1"},
    "edged": {"stroke": "panel", "stroke-width": "0.7"},
    "faint": {"stroke-width": "1.4", "stroke-opacity": "0.85"},
    "thin": {"stroke-width": "1.3", "stroke-opacity": "0.75"},
    "light": {"fill-opacity": "0.45"},
    "band": {"fill-opacity": "0.15"},
    "dash": {"stroke-dasharray": "5 4"},
    "dash2": {"stroke-dasharray": "7 4"},
    "dash3": {"stroke-dasharray": "2 4"},
    "dash4": {"stroke-dasharray": "8 4 2 4"},
    "dash5": {"stroke-dasharray": "12 4"},
    "text": {"font-family": FONT, "font-size": f"{FONT_PX}px", "fill": "muted"},
    "title": {"fill": "fg", "font-size": f"{TITLE_PX}px", "font-weight": "600"},
    "strong": {"fill": "fg", "font-weight": "600"},
    "on": {"fill": "on"},
    "in": {"fill": "fg"},
    "through": {"pointer-events": "none"},
    "mid": {"text-anchor": "middle"},
    "end": {"text-anchor": "end"},
    "halo": {
        "paint-order": "stroke",
        "stroke": "panel",
        "stroke-width": "4px",
        "stroke-linejoin": "round",
    },
}


def look(tag: str, kind: str) -> dict[str, str]:
    """What a mark looks like; the properties of later kinds stand for those of earlier ones."""
    names = (["text"] if tag == "text" else []) + kind.split()
    return {key: value for name in names for key, value in KINDS[name].items()}


def light(properties: Look) -> dict[str, str]:
    """Properties with the colours for white paper."""
    return {key: COLOURS[own][0] if own in COLOURS else own for key, own in properties.items()}


def page_style() -> str:
    """The style sheet of pages: colours as variables, in light, dark and print, and all kinds."""
    rules = [
        _root("light dark", {name: both[0] for name, both in COLOURS.items()}),
        f"@media (prefers-color-scheme: dark) {{ {_root('', _dark())} }}",
        f"@media print {{ {_root('light', {**{k: v[0] for k, v in COLOURS.items()}, **PAPER})} }}",
    ]
    for name, properties in KINDS.items():
        where = "svg text" if name == "text" else f"svg .{name}"
        own = (f"{k}: {f'var(--{v})' if v in COLOURS else v}" for k, v in properties.items())
        rules.append(f"{where} {{ {'; '.join(own)} }}")
    return "\n".join(rules) + "\n"


def file_style() -> str:
    """The style sheet of an SVG file, whose marks have their light colours as attributes: only what
    is different in the dark.
    """
    rules = []
    for name, properties in KINDS.items():
        own = [f"{k}: {_dark()[v]}" for k, v in properties.items() if v in COLOURS]
        if own:
            rules.append(f"{'text' if name == 'text' else f'.{name}'} {{ {'; '.join(own)} }}")
    return f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"


def _dark() -> dict[str, str]:
    return {name: both[1] for name, both in COLOURS.items()}


def _root(scheme: str, colours: Mapping[str, str]) -> str:
    first = f"color-scheme: {scheme}; " if scheme else ""
    return f":root {{ {first}{' '.join(f'--{name}: {own};' for name, own in colours.items())} }}"
