"""Answers other than success: `application/problem+json` (RFC 9457) with a code of docs/errors.md.

Texts are constant or about the request itself: never a path, a trace or a version of this machine.
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from vitrail.errors import VitrailError

TITLES = {
    400: "malformed request",
    401: "token missing or wrong",
    404: "not found",
    405: "method not allowed",
    408: "the request body came too slowly",
    411: "length required",
    413: "too large",
    415: "not an image",
    421: "host not allowed",
    422: "cannot be processed",
    500: "internal error",
    503: "not available now",
    504: "deadline passed",
}


class Problem(Exception):
    """A request that gets no result. retry_secs: when another try makes sense; closes: whether the
    connection ends with the answer, as the request was not read to its end.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        retry_secs: int | None = None,
        closes: bool = False,
        allow: str = "",
    ) -> None:
        super().__init__(f"{status} {code} {detail}")
        self.status, self.code, self.detail = status, code, detail
        self.retry_secs, self.closes, self.allow = retry_secs, closes, allow

    def response(self, request_id: str, *, is_v2: bool = False) -> JSONResponse:
        """The answer, with the id under which the log knows the request; is_v2: clients of the Open
        Inference Protocol look for "error".
        """
        body: dict[str, object] = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        }
        if is_v2:
            body["error"] = f"{self.code}: {self.detail or TITLES[self.status]}"
        return JSONResponse(
            body, self.status, headers=self._headers(), media_type="application/problem+json"
        )

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self.retry_secs is not None:
            headers["Retry-After"] = str(self.retry_secs)
        if self.closes:
            headers["Connection"] = "close"
        if self.allow:
            headers["Allow"] = self.allow
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def refused(status: int, detail: str, *, closes: bool = False) -> Problem:
    """A request that is not one of this server's, by its form."""
    return Problem(status, "VIT-915", detail, closes=closes)


def malformed(detail: str) -> Problem:
    """A body that is not what it says."""
    return Problem(400, "VIT-910", detail)


def of_error(error: VitrailError) -> Problem:
    """What a request asked for and cannot have."""
    return Problem(422, error.code, error.message)
