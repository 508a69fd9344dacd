"""Loaders: one order and the same bits for any number of workers and resumes; faults; orphans."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import ArrayLoader, Batch, FileLoader, make_loader, normalise
from vitrail.data.loading.order import batch_indices
from vitrail.data.sources.open_data import ArraySource, FileSource
from vitrail.errors import DataError, EnvironmentFault

NUM, SIZE = 23, (17, 13)
SQUASH = Preprocess(height=SIZE[0], width=SIZE[1], resize=SIZE, interpolation="bilinear")
STRONG = AugmentConfig(policy="randaugment", erasing=0.3, color_jitter=0.3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    """23 small JPEGs of different sizes."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(NUM):
        small = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((31 + number, 29), Image.Resampling.BICUBIC)
        image.save(root / f"{number}.jpg", quality=90)
        paths.append(f"{number}.jpg")
    labels = np.arange(NUM, dtype=np.int64) % 3
    return FileSource("tiny", ("a", "b", "c"), labels, root=str(root), paths=tuple(paths))


@pytest.fixture(scope="module")
def arrays() -> ArraySource:
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (NUM, *SIZE, 3), dtype=np.uint8)
    return ArraySource("tiny", ("a", "b", "c"), np.arange(NUM, dtype=np.int64) % 3, images=images)


def digest(batches: Iterable[Batch]) -> list[str]:
    """One hash a batch over indices and pixels, in order."""
    return [
        hashlib.sha256(
            batch.indices.numpy().tobytes() + batch.images.contiguous().numpy().tobytes()
        ).hexdigest()
        for batch in batches
    ]


def file_loader(files: FileSource, workers: int = 0, **changes: object) -> FileLoader:
    options = {"batch_size": 5, "seed": 3, "workers": workers, **changes}
    loader = make_loader(files, SQUASH, STRONG, Batching(**options))  # type: ignore[arg-type]
    assert isinstance(loader, FileLoader)
    return loader


@pytest.mark.promise("R5")
def test_workers_and_resumes_change_no_bit(files: FileSource) -> None:
    """Steps 0..13 cross epoch edges (23 images, batches of 5); resumed three times in between."""
    straight = digest(file_loader(files).batches(0, 14))
    assert len(set(straight)) == 14
    for workers in (1, 2, 4):
        loader = file_loader(files, workers)
        assert digest(loader.batches(0, 14)) == straight
    loader = file_loader(files, 2)
    resumed = [
        one for edge in ((0, 1), (1, 4), (4, 5), (5, 14)) for one in digest(loader.batches(*edge))
    ]
    assert resumed == straight
    assert digest(file_loader(files, seed=4).batches(0, 14)) != straight


@pytest.mark.promise("R5")
def test_array_batches_are_a_function_of_the_step(
    arrays: ArraySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = digest(make_loader(arrays, SQUASH, STRONG, Batching(5)).batches(0, 14))
    again = make_loader(arrays, SQUASH, STRONG, Batching(5))
    assert digest(again.batches(9, 14)) == straight[9:]
    assert digest(again.batches(0, 9)) == straight[:9]
    monkeypatch.setattr("vitrail.data.loading.array_loader.GROUP_IMAGES", 1)  # one step at a time
    assert digest(make_loader(arrays, SQUASH, STRONG, Batching(5)).batches(0, 14)) == straight
    larger = make_loader(arrays, SQUASH, STRONG, Batching(10)).batches(0, 7)
    whole = torch.cat([batch.images for batch in larger])
    small = torch.cat(
        [batch.images for batch in make_loader(arrays, SQUASH, STRONG, Batching(5)).batches(0, 14)]
    )
    assert torch.equal(whole, small)


def test_batches_hold_the_examples_of_the_order(files: FileSource, arrays: ArraySource) -> None:
    for source in (files, arrays):
        loader = make_loader(source, SQUASH, None, Batching(batch_size=5, seed=7))
        for step, batch in enumerate(loader.batches(0, 6)):
            indices = batch_indices(7, step, 5, NUM)[0]
            assert batch.indices.tolist() == indices.tolist()
            assert batch.labels.tolist() == source.labels[indices].tolist()
            assert batch.images.shape == (5, 3, *SIZE)
            assert batch.images.dtype == torch.uint8


def test_repeats_show_an_image_twice_in_different_views(arrays: ArraySource) -> None:
    config = AugmentConfig(crop="pad_crop", repeats=2)
    batch = next(make_loader(arrays, SQUASH, config, Batching(6)).batches(0, 1))
    assert batch.indices[0::2].tolist() == batch.indices[1::2].tolist()
    assert not torch.equal(batch.images[0], batch.images[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_every_file_once(files: FileSource, workers: int) -> None:
    batches = list(file_loader(files, workers).eval_batches(10))
    assert [len(batch.indices) for batch in batches] == [10, 10, 3]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(NUM))
    expected = SQUASH(Path(files.path(22)))
    assert torch.equal(normalise(batches[-1].images, SQUASH)[-1], expected)


def test_evaluation_of_arrays_is_the_preprocessing(arrays: ArraySource) -> None:
    for preprocess in (
        SQUASH,
        Preprocess(height=11, width=19, resize=(11, 19)),
        Preprocess(height=11, width=11, resize=12, crop="center"),
        Preprocess(height=17, width=13, resize=SIZE, mean=(0.3,), std=(0.2,)),
    ):
        batches = list(make_loader(arrays, preprocess, STRONG, Batching(5)).eval_batches(20))
        assert [len(batch.images) for batch in batches] == [20, 3]
        result = normalise(torch.cat([batch.images for batch in batches]), preprocess)
        for pixels, image in zip(arrays.images, result, strict=True):
            assert torch.equal(preprocess(pixels), image)


def test_training_without_a_crop_shows_evaluation_images(
    arrays: ArraySource, files: FileSource
) -> None:
    preprocess = Preprocess(height=11, width=11, resize=12, crop="center")
    for source in (arrays, files):
        plain = AugmentConfig(crop="none", flip=0)
        trained = next(make_loader(source, preprocess, plain, Batching(NUM)).batches(0, 1))
        seen = next(make_loader(source, preprocess, None, Batching(NUM)).eval_batches(NUM))
        assert torch.equal(trained.images, seen.images[trained.indices])


def test_gray_and_colour_sources_fit_either_model(files: FileSource) -> None:
    gray_model = Preprocess(height=17, width=13, resize=SIZE, mean=(0.5,), std=(0.5,))
    assert (
        next(make_loader(files, gray_model, STRONG, Batching(3)).batches(0, 1)).images.shape[1] == 1
    )
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, *SIZE, 1), dtype=np.uint8)
    source = ArraySource("gray", ("a",), np.zeros(NUM, np.int64), images=pixels)
    images = next(make_loader(source, SQUASH, STRONG, Batching(7)).batches(0, 1)).images
    assert images.shape == (7, 3, *SIZE)


def test_multi_label_targets_pass_through(arrays: ArraySource) -> None:
    labels = np.eye(NUM, 3, dtype=np.float32)
    source = ArraySource("many", ("a", "b", "c"), labels, images=arrays.images)
    batch = next(make_loader(source, SQUASH, None, Batching(4)).batches(0, 1))
    assert torch.equal(batch.labels, torch.from_numpy(labels[batch.indices.numpy()]))


def test_read_only_arrays_are_taken(arrays: ArraySource) -> None:
    images = arrays.images.copy()
    images.flags.writeable = False
    source = ArraySource("frozen", ("a",), np.zeros(NUM, np.int64), images=images)
    loader = make_loader(source, SQUASH, STRONG, Batching(4))
    assert isinstance(loader, ArrayLoader)
    assert len(next(loader.batches(0, 1)).images) == 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("content", "reason"), [(b"<html>not here</html>", "HTML|format"), (None, "does not exist")]
)
def test_a_bad_file_is_named_with_its_reason(
    tmp_path: Path, workers: int, content: bytes | None, reason: str
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (29, 31)).save(buffer, "jpeg")
    (tmp_path / "good.jpg").write_bytes(buffer.getvalue())
    if content is not None:
        (tmp_path / "bad.jpg").write_bytes(content)
    source = FileSource(
        "two", ("a",), np.zeros(2, np.int64), root=str(tmp_path), paths=("good.jpg", "bad.jpg")
    )
    with pytest.raises(DataError, match=f"bad.jpg: .*({reason})") as caught:
        list(file_loader(source, workers, batch_size=2).batches(0, 3))
    assert caught.value.code == "VIT-301"
    assert "--on-bad-file skip" in caught.value.hint
    with pytest.raises(DataError, match="bad.jpg") as caught:
        list(file_loader(source, workers, on_bad_file="skip").eval_batches(1))
    assert "changed since" in caught.value.hint  # it was not skipped when the images were checked


def test_too_little_shared_memory_is_told_before_workers_start(
    files: FileSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vitrail.data.loading.file_loader.SHARED_MEMORY", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=5 * 3 * 17 * 13 * 5 - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(EnvironmentFault, match="2 workers with batches of 5 images") as caught:
        next(file_loader(files, 2).batches(0, 1))
    assert caught.value.code == "VIT-521"
    assert len(list(file_loader(files, 1).batches(0, 1))) == 1
    assert len(list(file_loader(files, 0).batches(0, 1))) == 1


def test_the_global_generators_are_left_alone(files: FileSource) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)
    list(file_loader(files, 2).batches(0, 3))
    assert torch.equal(torch_before, torch.get_rng_state())
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_before)


def test_waiting_is_counted(files: FileSource) -> None:
    loader = file_loader(files)
    list(loader.batches(0, 2))
    first = loader.data_wait_secs
    list(loader.eval_batches(10))
    assert 0 < first < loader.data_wait_secs


def test_workers_end_when_the_iterator_is_closed(files: FileSource) -> None:
    before = {child.pid for child in psutil.Process().children()}
    batches = file_loader(files, 2).batches(0, 10_000_000)
    next(batches)
    started = [child for child in psutil.Process().children() if child.pid not in before]
    assert len(started) == 2
    batches.close()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_without_workers_change_no_bit_and_end(
    files: FileSource, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    expected = digest(file_loader(files, 1).batches(0, 7))
    monkeypatch.setattr("vitrail.data.loading.file_batches.num_cores", lambda: threads)

    def running() -> int:
        return sum(thread.name.startswith("pictures") for thread in threading.enumerate())

    batches = file_loader(files).batches(0, 10_000_000)
    assert digest(itertools.islice(batches, 7)) == expected
    assert running() == threads
    batches.close()
    until = time.monotonic() + 10
    while running() and time.monotonic() < until:
        time.sleep(0.01)
    assert running() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.promise("R14")
def test_workers_die_with_a_killed_parent_and_ignore_interrupts(files: FileSource) -> None:
    code = textwrap.dedent(f"""
        import numpy as np, psutil, time
        from vitrail.data.loading import worker_process
        from vitrail.data.loading.batching import Batching
        from vitrail.data.loading.file_loader import FileLoader
        from vitrail.data.sources.source import FileSource
        from vitrail.data.images.preprocess import Preprocess
        source = FileSource(
            "t", ("a",), np.zeros({NUM}, np.int64), root={files.root!r}, paths={files.paths!r}
        )
        start = worker_process.start_worker
        def start_late(worker):  # the second is interrupted before it ignores interrupts
            time.sleep(0.5 * worker)
            start(worker)
        worker_process.start_worker = start_late
        preprocess = Preprocess(height=17, width=13, resize=(17, 13))
        loader = FileLoader(source, preprocess, None, Batching(4, workers=2))
        batches = loader.batches(0, 10**9)
        next(batches)
        print(*(child.pid for child in psutil.Process().children()), flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
        time.sleep(0.7)
        assert all(worker.is_running() and worker.status() != "zombie" for worker in workers)
        parent.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.data
def test_real_photographs_equal_pillow(shared_data: Path) -> None:
    """40 real images through the loader's path: pixels equal to Pillow's, bit for bit."""
    from vitrail.data.augment import random_slots
    from vitrail.data.augment.crops import flips, inception_boxes

    paths = sorted((shared_data / "caltech101" / "train").glob("*/*.jpg"))[::25][:40]
    root = str(shared_data / "caltech101")
    relative = tuple(os.path.relpath(path, root) for path in paths)
    source = FileSource("photos", ("a",), np.zeros(len(paths), np.int64), root=root, paths=relative)
    size = (96, 112)
    preprocess = Preprocess(height=96, width=112, resize=size, interpolation="bilinear")
    config = AugmentConfig()
    loader = make_loader(source, preprocess, config, Batching(batch_size=len(paths), workers=2))
    batch = next(loader.batches(0, 1))
    zeros = np.zeros(len(paths), np.int64)
    u = random_slots.draw(0, zeros, batch.indices.numpy(), zeros)
    for row, index, image in zip(u, batch.indices.tolist(), batch.images, strict=True):
        with Image.open(paths[index]) as opened:
            expected = opened.convert("RGB")
        top, left, height, width = inception_boxes(row[None], expected.size[::-1], config)[
            0
        ].tolist()
        box = (left, top, left + width, top + height)
        expected = expected.resize(size[::-1], Image.Resampling.BILINEAR, box=box)
        if flips(row[None], config)[0]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))
