"""An exported model as a deployment of Ray Serve (pip install 'ray[serve]' onnxruntime).

    VITRAIL_MODEL=runs/photos-1/export serve run docs.deploy.ray_serve:app

POST / takes the bytes of one image; images that arrive together are one batch.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve

import vitrail

BATCH = 16


@serve.deployment(max_ongoing_requests=4 * BATCH, max_queued_requests=8 * BATCH)
class Classify:
    """A replica: one engine of one thread; more replicas use more cores."""

    def __init__(self, model: str) -> None:
        self.classifier = vitrail.load(model, threads=1, batch=BATCH)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.0)
    async def answers(self, images: list[bytes]) -> list[dict[str, Any]]:
        """The best classes of each image, or in `error` why there are none."""
        found = self.classifier.answer([self.classifier.prepare(one) for one in images], top=5)
        return [
            {
                "error": one.error,
                "top": [{"label": label, "score": score} for label, score in one.top],
            }
            for one in found
        ]

    async def __call__(self, request: Any) -> dict[str, Any]:
        return await self.answers(await request.body())


app = Classify.bind(os.environ.get("VITRAIL_MODEL", "model"))
