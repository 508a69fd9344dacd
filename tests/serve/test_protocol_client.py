"""The Open Inference Protocol as a client of others speaks it: tritonclient, from the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serve.running import CLASSES, Running, running, some_classifier, some_png
from vitrail.serve.limits import Limits

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier, limits=Limits(queue=16, batch=4)) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    """A client of NVIDIA's library."""
    library = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is missing")
    found = library.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=60.0)
    yield found
    found.close()


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m0")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    shapes = {one["name"]: one["shape"] for one in client.get_model_metadata("m0")["inputs"]}
    assert shapes == {"image": [-1, 3, 16, 24], "encoded": [-1]}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("seeds", [(1,), (2, 3, 5)])
def test_prepared_images(client: Any, binary: bool, seeds: tuple[int, ...]) -> None:
    from tritonclient.http import InferInput, InferRequestedOutput

    classifier = some_classifier()
    images = np.stack([classifier.preprocess.floats(some_png(seed)) for seed in seeds])
    given = InferInput("image", list(images.shape), "FP32")
    given.set_data_from_numpy(images, binary_data=binary)
    wanted = [InferRequestedOutput("probabilities", binary_data=binary)]
    found = client.infer("m0", [given], outputs=wanted, request_id="a-1")
    expected = classifier.probabilities(images)
    assert np.abs(found.as_numpy("probabilities") - expected).max() <= 1e-6
    assert found.get_response()["id"] == "a-1"


def test_files(client: Any) -> None:
    from tritonclient.http import InferInput

    files = np.array([some_png(7), some_png(11)], dtype=object)
    given = InferInput("encoded", [2], "BYTES")
    given.set_data_from_numpy(files, binary_data=True)
    labels = client.infer("m0", [given]).as_numpy("label")
    expected = [one.label for one in some_classifier().predict(list(files))]
    assert [one.decode() for one in labels] == expected
    assert set(expected) <= set(CLASSES)


def test_a_refusal_is_the_client_s_exception(client: Any) -> None:
    from tritonclient.http import InferInput
    from tritonclient.utils import InferenceServerException

    given = InferInput("image", [1, 3, 5, 7], "FP32")
    given.set_data_from_numpy(np.zeros((1, 3, 5, 7), np.float32))
    with pytest.raises(InferenceServerException, match="image"):
        client.infer("m0", [given])
