"""A model as a call: torch's runtime, and evaluation and prediction where there is no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import normalise
from vitrail.models.create import create_model
from vitrail.prediction import Scores, probabilities_of
from vitrail.runtime.runtime import as_numpy, flip_averaged
from vitrail.runtime.torch_runtime import TorchRuntime

SIZE = (3, 16, 24)


def images(count: int) -> Tensor:
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> nn.Module:
    return create_model("vit_mu8", num_classes=5, image_size=SIZE[1:])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_and_features_are_those_of_the_model(model: nn.Module, precision: str) -> None:
    runtime = TorchRuntime(model.train(), SIZE, precision)
    got, features = runtime.logits(images(3)), runtime.features(images(3))
    assert model.training  # as it was
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        expected = model.eval()(images(3))
    assert got.dtype == features.dtype == torch.float32
    assert torch.equal(got, expected.float())
    assert torch.equal(runtime.logits(images(3).numpy()), got)
    assert not got.requires_grad
    assert features.shape == (3, 32)


def test_info_says_what_computes(model: nn.Module) -> None:
    info = TorchRuntime(model, SIZE, "bfloat16").info
    assert (info.engine, info.precision, info.device) == ("torch", "bfloat16", "cpu")
    assert (info.threads, info.input_size) == (torch.get_num_threads(), SIZE)
    assert info.best_batch >= 1


def test_arrays_are_flipped_as_tensors_are() -> None:
    def left(x: np.ndarray | Tensor) -> np.ndarray | Tensor:
        return x[:, 0, :, 0]

    both = flip_averaged(left)(images(2))
    assert torch.equal(both, (images(2)[:, 0, :, 0] + images(2)[:, 0, :, -1]) / 2)
    assert np.array_equal(flip_averaged(left)(images(2).numpy()), as_numpy(both))


def test_numpy_normalises_to_the_bits_of_torch() -> None:
    preprocess = Preprocess(
        height=16, width=24, resize=(16, 24), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    for given in (values, values.float() + 0.25):
        got = normalise(given.numpy(), preprocess)
        assert got.flags.c_contiguous
        assert torch.equal(torch.from_numpy(got), normalise(given, preprocess))
    turned = values.permute(0, 1, 3, 2)
    assert np.array_equal(
        normalise(turned.numpy(), preprocess), normalise(turned, preprocess).numpy()
    )


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_numpy_and_torch_give_the_same_probabilities(scores: Scores) -> None:
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(1)) * 30
    got = probabilities_of(logits.numpy(), 1.7, scores)
    assert got.dtype == np.float32
    assert np.abs(got - probabilities_of(logits, 1.7, scores)).max() < 1e-6
    z = logits.double() / 1.7
    expected = z.sigmoid() if scores == "sigmoid" else z.softmax(dim=1)
    assert np.abs(got - expected.numpy()).max() < 1e-7


PROGRAM = """
import io, sys
sys.modules["torch"] = None  # an import of it is an error
import numpy as np
from PIL import Image
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.errors import ModelError
from vitrail.evaluation.calibrate import fit_temperature
from vitrail.evaluation.evaluate import evaluate, outputs_of
from vitrail.evaluation.paired import compare
from vitrail.evaluation.robustness.measure import robustness
from vitrail.runtime.runtime import RuntimeInfo


class Bright:
    info = RuntimeInfo("numpy", "float32", "cpu", 1, (1, 4, 6), 8)

    def logits(self, images):
        mean = images.mean(axis=(1, 2, 3))
        return np.stack([-mean, mean], axis=1)


def encoded(value):
    with io.BytesIO() as stream:
        Image.new("L", (6, 4), value).save(stream, "png")
        return stream.getvalue()


preprocess = Preprocess(height=4, width=6, resize=(4, 6), mean=(0.5,), std=(0.5,))
classifier = Classifier(None, preprocess, ["dark", "light"], runtime=Bright())
told = classifier.predict([encoded(10), b"no image", encoded(240)])
print([(one.label, one.error is None) for one in told])
pixels = np.stack([np.full((1, 4, 6), value, np.uint8) for value in (10, 200, 60, 250)])
batches = [Batch(pixels[i:i + 3], np.array([0, 1, 1, 1])[i:i + 3], np.arange(4)[i:i + 3])
           for i in (0, 3)]
found = evaluate(Bright().logits, batches, preprocess, classifier.classes)
kept = outputs_of(Bright().logits, batches, preprocess, classifier.classes)
print(found.top1, compare(found, kept.scored(2.0)).top1_difference)
print(fit_temperature(kept.logits, kept.labels) > 0, found.intervals["nll"][0] < found.nll)
print(robustness(Bright().logits, batches, preprocess, ["fog"], [1, 5]).n)
try:
    classifier.model
except ModelError as error:
    print(error.code)
"""


def test_without_torch_another_engine_predicts_and_is_evaluated() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[('dark', True), (None, False), ('light', True)]",
        "0.75 0.0",
        "True True",
        "4",
        "VIT-444",
    ]
