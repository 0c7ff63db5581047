"""HTTP requests with retries, and problems translated to exceptions."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import stamina

from nngp_prior.errors import DataUnavailable, InvalidInput, InvalidLabels, NngpPriorError, ResourceLimit, ServiceError

T = TypeVar("T")
# Service unreachable, or response interrupted; all requests are idempotent, so they can be retried.
DROPPED = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
_AGAIN = (429, 503, 507)
_NOBODY = 5.0  # seconds after which a first request fails if nothing listens
_LIKE = "Give one like http://127.0.0.1:8000."
_LOCAL = ("127.0.0.1", "localhost", "::1")
_log = logging.getLogger("nngp_prior.client")


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    _log.warning("%s. Trying again in %.1f s.", str(details.caused_by).rstrip("."), details.wait_for)


# If structlog is installed, stamina's default hook would print on standard output, among a program's results.
stamina.instrumentation.set_on_retry_hooks([_log_retry])


class Http:
    """Connection to a service.

    Args:
        url: URL of the service.
        token: token of the service.
        timeout: seconds for a response, and for retries.
        address_file: file that the address was read from, if any.
        transport: transport of HTTPX. Default: direct connections, or proxies of the environment.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        address_file: Path | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        try:
            base = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise InvalidInput("url", f"got {url!r} ({error})", _LIKE) from None
        if base.scheme not in ("http", "https") or not base.host:
            raise InvalidInput("url", f"got {url!r}", _LIKE)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InvalidInput("token", "has characters that no header takes", "Copy it again.")
        require_seconds(timeout, least=1e-3)
        self.url, self._timeout, self._address_file = url.rstrip("/"), timeout, address_file
        self._answered = False
        elsewhere = base.host not in _LOCAL
        self._client = httpx2.Client(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=timeout,
            trust_env=elsewhere,  # no proxy for this machine
            transport=transport,
            verify=elsewhere or base.scheme == "https",  # certificates take a while to load, and are not needed
        )

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        allow: tuple[int, ...] = (),
        **content: Any,
    ) -> httpx2.Response:
        """Send a request, and read the whole response.

        Args:
            method: HTTP method.
            path: path relative to the service's address.
            headers: headers of the request.
            wait: seconds that the service may wait before it responds.
            allow: status codes that are accepted in addition to success.
            **content: ``json``, ``params``, or ``content``, a function that creates the body of each attempt.

        Returns:
            the response.
        """
        body = content.pop("content", None)

        def ask() -> httpx2.Response:
            made = content if body is None else {**content, "content": body()}
            timeout = self._timeout + wait
            response = self._client.request(method, path, headers=headers, timeout=timeout, **made)
            self._answered = True
            _raise_for(response, allow)
            return response

        return self._persist(ask)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """Send a request, and read the response as a stream; only its start is retried.

        Args:
            path: path relative to the service's address.
            headers: headers of the request.

        Yields:
            the response.
        """

        def ask() -> httpx2.Response:
            request = self._client.build_request("GET", path, headers=headers, timeout=self._timeout)
            response = self._client.send(request, stream=True)
            self._answered = True
            try:
                if not response.is_success:
                    response.read()
                _raise_for(response)
            except Exception:
                response.close()
                raise
            return response

        response = self._persist(ask)
        try:
            yield response
        finally:
            response.close()

    def _persist(self, ask: Callable[[], T]) -> T:
        began = time.monotonic()

        def again(error: Exception) -> bool | float:
            if isinstance(error, ServiceError) and error.status in _AGAIN:
                if error.retry_after is None:
                    return True
                if time.monotonic() - began + error.retry_after > self._timeout:
                    return False
                return error.retry_after + random.uniform(0, 0.1 * error.retry_after)
            if isinstance(error, httpx2.ConnectError) and not self._answered:
                return time.monotonic() - began < _NOBODY
            return isinstance(error, DROPPED)

        attempts = stamina.retry_context(again, attempts=None, timeout=self._timeout, wait_max=5.0)
        try:
            for attempt in attempts:
                with attempt:
                    return ask()
        except ServiceError as error:
            raise translated(error) from None
        except httpx2.TransportError as error:
            raise self.unreachable(error) from None
        raise AssertionError("attempts end with an answer or an error")

    def unreachable(self, error: Exception) -> ServiceError:
        """Return the exception for no response, or an incomplete one.

        Args:
            error: last error.

        Returns:
            exception to raise.
        """
        why = str(error) or type(error).__name__
        file = self._address_file
        left = f" The address is from {file}, which a service that was killed leaves behind." if file else ""
        detail = (
            f"{self.url}: no service answers there ({why}).{left} Start it with nngp-prior serve, or give another url "
            "(NNGP_URL)."
        )
        return ServiceError({"status": None, "code": "unreachable", "detail": detail, "retryable": True})


def require_seconds(seconds: float | None, least: float = 0.0) -> None:
    """Refuse an invalid timeout.

    Args:
        seconds: timeout; None: no limit.
        least: smallest valid value.

    Raises:
        InvalidInput: if it is smaller, or not a number.
    """
    if seconds is not None and not seconds >= least:
        raise InvalidInput("timeout", f"got {seconds}", f"Give at least {least:g} seconds.")


def translated(error: ServiceError) -> NngpPriorError:
    """Return the exception that the same mistake raises in process, if there is one.

    Args:
        error: error of the service.

    Returns:
        exception to raise from it.
    """
    if error.code in ("kernel-too-large", "too-long", "time-limit"):
        return ResourceLimit(str(error))
    if error.code == "data-unavailable":
        return DataUnavailable(str(error))
    located = [each for each in error.problem.get("errors") or [] if each.get("location")]
    if error.status == 422 and located:
        field, message = (
            located[0]["location"].removeprefix("body.").removeprefix("query."),
            located[0].get("message", str(error)),
        )
        problem, _, remedy = message.partition(". ")
        kind = InvalidLabels if error.code == "invalid-labels" else InvalidInput
        return kind(field, problem.removesuffix("."), remedy or "Change it.")
    return error


def _raise_for(response: httpx2.Response, allow: tuple[int, ...] = ()) -> None:
    if response.is_success or response.status_code in allow:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:  # answered by a proxy, or not by this service
        unauthorized = response.status_code == 401  # responses to HEAD have no body
        remedy = "Give the service's token (NNGP_TOKEN)." if unauthorized else "Is the service there?"
        detail = f"{response.request.url}: answered {response.status_code} {response.reason_phrase}. {remedy}"
        code = "unauthorized" if unauthorized else "unknown"
        problem = {"code": code, "detail": detail, "retryable": response.status_code in _AGAIN}
    raise ServiceError({**problem, "status": response.status_code}, seconds_after(response))


def seconds_after(response: httpx2.Response) -> float | None:
    """Return the value of ``Retry-After`` in seconds.

    Args:
        response: response that may have the header.

    Returns:
        seconds; None if there is no such header, or it is a date.
    """
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
