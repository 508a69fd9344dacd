"""Every option of the configurations as ONNX, by both engines, and as torch.export: equal to torch,
in batches of any size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.models.tiny_configs import Choice, build_config, covering_choices
from vitrail.data.images.preprocess import Preprocess
from vitrail.export.graph import Graph
from vitrail.export.onnx_export import onnx_bytes
from vitrail.export.torch_export import exported_program
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import create_model
from vitrail.models.names import ModelConfig
from vitrail.models.resnet.config import ResNetConfig
from vitrail.runtime.engines import is_installed, open_session
from vitrail.runtime.session import Floats

CHOICES = covering_choices()
RELATIVE = next(i for i, one in enumerate(CHOICES) if build_config(one).posemb == "relative")
SAMPLE = sorted({RELATIVE, 0, 30})
BATCHES = (1, 2, 3, 7, 32)
ENGINES = [engine for engine in ("onnx", "openvino") if is_installed(engine)]
BIT = BiTConfig(image_size=(37, 33), channels=3, width_factor=1, depths=(1, 1, 1, 1), num_classes=5)
RESNET = ResNetConfig(image_size=(15, 13), channels=3, num_classes=5)


def graph_of(config: ModelConfig, scores: str = "softmax") -> Graph:
    model = create_model(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.05)
    height, width = config.image_size
    count = config.channels
    made = Preprocess(
        height=height, width=width, resize=(height, width), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    graph = Graph(model, made, 1.3, "sigmoid" if scores == "sigmoid" else "softmax")
    graph.input_size = (count, height, width)  # tiny models have 2 channels, images never
    graph.mean, graph.std = graph.mean[:count], graph.std[:count]
    return graph


def check(graph: Graph) -> None:
    content = onnx_bytes(graph, "{}")
    for engine in ENGINES:
        agrees(graph, open_session(engine, content, "model.onnx"))


def check_torch_export(graph: Graph) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = exported_program(graph).module()

    def compute(pixels: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, p = module(torch.from_numpy(pixels))
        return logits.numpy(), p.numpy()

    agrees(graph, compute)


def agrees(graph: Graph, compute: Callable[[Floats], tuple[Floats, Floats]]) -> None:
    generator = np.random.default_rng(0)
    for size in BATCHES:
        pixels = generator.integers(0, 256, (size, *graph.input_size)).astype(np.float32)
        with torch.inference_mode():
            expected = [one.numpy() for one in graph(torch.from_numpy(pixels))]
        logits, p = compute(pixels)
        scale = max(1.0, float(np.abs(expected[0]).max()))
        np.testing.assert_allclose(logits, expected[0], rtol=0, atol=1e-5 * scale)
        np.testing.assert_allclose(p, expected[1], rtol=0, atol=1e-5)


def config_of(choice: Choice) -> ModelConfig:
    return build_config(choice)


@pytest.mark.parametrize("index", SAMPLE)
def test_a_sample_of_the_options(index: int) -> None:
    check(graph_of(config_of(CHOICES[index])))


@pytest.mark.slow
@pytest.mark.parametrize("index", [i for i in range(len(CHOICES)) if i not in SAMPLE])
def test_every_pair_of_options(index: int) -> None:
    graph = graph_of(config_of(CHOICES[index]))
    check(graph)
    check_torch_export(graph)


@pytest.mark.parametrize(
    "config", [pytest.param(BIT, marks=pytest.mark.slow), RESNET], ids=["bit", "resnet"]
)
def test_residual_networks(config: ModelConfig) -> None:
    check(graph_of(config, "sigmoid"))


@pytest.mark.parametrize("index", SAMPLE[:1])
def test_torch_export_is_equal_in_any_batch(index: int) -> None:
    check_torch_export(graph_of(config_of(CHOICES[index])))
