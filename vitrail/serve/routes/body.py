"""A request body, read within limits of size and time; what is refused is not read."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from vitrail.serve.admission import Ticket
from vitrail.serve.limits import Limits
from vitrail.serve.problem import ClientGoneError, refused

Result = TypeVar("Result")
MAX_DIGITS = 15


def length_of(request: Request, limits: Limits) -> int:
    """Bytes that the headers promise. Raises Problem 400, 411 or 413."""
    headers = request.headers
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise refused(411, "send the body with a Content-Length, not in chunks", closes=True)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise refused(415, "send the body without a Content-Encoding", closes=True)
    given = headers.getlist("content-length")
    if len(set(given)) > 1 or not (given[0].isascii() and given[0].isdigit()):
        raise refused(400, "Content-Length is not one number", closes=True)
    if len(given[0]) > MAX_DIGITS or int(given[0]) > limits.max_body:
        raise refused(413, f"the body is larger than {limits.max_body} bytes", closes=True)
    return int(given[0])


async def read_body(request: Request, limits: Limits, ticket: Ticket) -> bytes:
    """The bytes. Raises Problem 408, 413, 503; ClientGoneError."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_secs):
            async for part in request.stream():
                size += len(part)
                if size > limits.max_body:
                    raise refused(
                        413, f"the body is larger than {limits.max_body} bytes", closes=True
                    )
                ticket.take(size=len(part))
                parts.append(part)
    except TimeoutError:
        raise refused(
            408, f"the body did not arrive within {limits.body_secs:g} s", closes=True
        ) from None
    except ClientDisconnect:
        raise ClientGoneError from None
    return b"".join(parts)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, dropped when the client leaves. Raises ClientGoneError."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGoneError
        return answer.result()
    finally:
        for task in (answer, gone):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await answer


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
