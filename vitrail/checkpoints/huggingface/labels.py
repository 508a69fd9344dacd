"""Names of classes in a config.json: `id2label`, and what of it does not fit the head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vitrail.spelling import count


def classes_of(values: Mapping[str, Any], num_classes: int) -> tuple[str, ...]:
    """Class names, () where they are only LABEL_0, LABEL_1 ..., or do not fit the head
    (`names_left_out` says so); equal names get their number, a null or blank name is its number.
    """
    labels = values.get("id2label")
    if not num_classes or not isinstance(labels, Mapping) or names_left_out(values, num_classes):
        return ()
    named = {str(number): name for number, name in labels.items()}
    found = [
        str(number) if is_blank(named[str(number)]) else str(named[str(number)])
        for number in range(num_classes)
    ]
    if all(name == f"LABEL_{number}" for number, name in enumerate(found)):
        return ()
    counts = Counter(found)
    return tuple(
        f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(found)
    )


def is_blank(name: object) -> bool:
    """Whether a name is null, or shows nothing."""
    return name is None or not str(name).strip()


def label_notes(values: Mapping[str, Any], num_classes: int) -> list[str]:
    """A sentence for each thing that config.json says of the classes and that is not followed."""
    notes = [note for note in [names_left_out(values, num_classes)] if note]
    told = values.get("num_labels")
    if num_classes and told is not None and told != num_classes:
        notes.append(
            f"config.json has num_labels {str(told)[:60]}, the head "
            f"{count(num_classes, 'output')}: the head is followed"
        )
    labels, back = values.get("id2label"), values.get("label2id")
    if notes or not num_classes or not isinstance(labels, Mapping) or not isinstance(back, Mapping):
        return notes
    turned = {(str(name), str(number)) for number, name in labels.items()}
    other = [name for name, number in back.items() if (str(name), str(number)) not in turned]
    if other:
        notes.append(
            f"label2id of config.json has {str(other[0])[:60]!r} as {str(back[other[0]])[:60]}, "
            "id2label has not: id2label is followed"
        )
    return notes


def names_left_out(values: Mapping[str, Any], num_classes: int) -> str:
    """Why the names of id2label are not those of the head, "" where they are."""
    labels, back = values.get("id2label"), values.get("label2id")
    if not num_classes or not labels and not back:
        return ""
    instead = "no name is taken, classes are their numbers"
    if not isinstance(labels, Mapping):
        what = "label2id, but no id2label" if labels is None else "an id2label that is no table"
        return f"config.json has {what}: {instead}"
    if any(isinstance(name, list | Mapping) for name in labels.values()):
        return f"config.json has an id2label whose values are no names: {instead}"
    numbers = {str(number) for number in labels}
    if numbers == {str(number) for number in range(num_classes)}:
        return ""
    if len(numbers) == num_classes:
        first, last = num_classes - 1, ", ".join(sorted(numbers)[:3])
        return f"the outputs are 0 to {first}, id2label of config.json has {last} ...: {instead}"
    return (
        f"id2label of config.json has {count(len(numbers), 'name')}, the head "
        f"{count(num_classes, 'output')}: {instead}"
    )
