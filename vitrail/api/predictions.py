"""Images classified: a few at once, or as a table of any number that survives a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, Unpack, cast

from vitrail.api.options import LoadOptions, refuse_address, shows_options
from vitrail.batch_prediction.asked_images import find_pictures
from vitrail.batch_prediction.predict_parts import Result, is_begun, predictions
from vitrail.batch_prediction.table_order import PART_ROWS, InParts, TableOrder, check_table
from vitrail.classifier import Classifier, load
from vitrail.cli.display.in_python import counting
from vitrail.errors import UsageError, check_numbers
from vitrail.files import refuse_existing
from vitrail.prediction import Picture, Prediction, as_inputs

Model: TypeAlias = str | Path | Classifier
AnyImage: TypeAlias = Picture  # a path, bytes, a Pillow image, uint8 (H, W, C)


@partial(shows_options, options=LoadOptions)
def predict(
    model: Model,
    images: AnyImage | Iterable[AnyImage],
    *,
    top: int = 5,
    batch_size: int = 64,
    **options: Unpack[LoadOptions],
) -> list[Prediction]:
    """The `top` best classes of each image, as `vitrail predict`.

    model: a run, a model folder, a checkpoint or a name, as for `load`, with its options; or a
    Classifier. images: files and folders; or bytes, Pillow images and uint8 arrays (H, W, C). An
    image that cannot be read has `error` and stops nothing.

    Raises UsageError VIT-202, VIT-203 for options of a model that is loaded already, VIT-212;
    DataError VIT-360 for a missing path, VIT-361 where folders hold no image; what `load` raises.
    """
    check_numbers({"--top": top, "--batch-size": batch_size})
    asked = list(as_inputs(images))
    if not all(isinstance(one, str | os.PathLike) for one in asked):
        return opened(model, options, batch_size).predict(asked, top, batch_size)
    paths = [Path(cast(str, one)) for one in asked]
    found = find_pictures(paths).images()
    batch = max(1, min(batch_size, len(found.paths) - len(found.refused)))
    return list(predictions(opened(model, options, batch), found, top, batch_size))


@partial(shows_options, options=LoadOptions)
def predict_table(
    model: str | Path,
    images: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    files_from: str | Path | None = None,
    top: int = 5,
    batch_size: int = 64,
    part_rows: int = PART_ROWS,
    cluster: Literal["ray"] | None = None,
    ray_address: str = "auto",
    progress: bool = True,
    **options: Unpack[LoadOptions],
) -> Result:
    """Write the answers to many images as a table, .csv, .jsonl or .parquet, in parts that survive
    a kill: the same call continues, and gives the bytes of a straight run.

    images, model, options, top: as for `predict`. files_from: a list or table of further images.
    part_rows: images of a part. cluster, ray_address: who computes the parts. The answer counts
    rows, errors and parts.

    Raises what `predict` raises; UsageError VIT-202 for another kind of table, VIT-206 where `out`
    is another table; DataError VIT-310, VIT-311; EnvironmentFault VIT-504, VIT-506, VIT-520.
    """
    check_numbers({"--top": top, "--batch-size": batch_size, "--part-rows": part_rows})
    refuse_address(ray_address, cluster)
    table = Path(out)
    check_table(table)
    given = [images] if isinstance(images, str | os.PathLike) else list(images)
    listed = None if files_from is None else Path(files_from)
    asked = find_pictures([Path(one) for one in given], listed).images()
    if not is_begun(table):
        refuse_existing(table)
    classifier = opened(model, options, min(batch_size, part_rows))
    order = TableOrder(model, dict(options), classifier, top, batch_size)
    with counting(progress=progress) as tell:
        return order.write(asked, table, InParts(part_rows, cluster, ray_address), tell)


def opened(model: Model, options: LoadOptions, batch: int) -> Classifier:
    """The classifier. Raises UsageError VIT-203 for options of one that is loaded already."""
    if not isinstance(model, Classifier):
        return load(model, **{"device": "auto", "engine": "auto", "batch": batch, **options})  # type: ignore[arg-type]
    if options:
        raise UsageError(
            "VIT-203",
            f"{', '.join(sorted(options))}: no effect on a classifier that is loaded already.",
            hint="Give them to vitrail.load, or give the path of the model.",
        )
    return model
