"""Refusals of requests that came at a bad time, or not whole."""

from bridge.errors import ClientDisconnected, ClientProtocolError


def unavailable(when: str) -> ClientProtocolError:
    """The refusal of a request that came at a bad time."""
    return ClientProtocolError(
        f"came {when}", expected="another try, in a second", clause="RFC 9110 15.6.4", status=503
    )


def truncated(error: ClientDisconnected) -> ClientProtocolError:
    """The refusal of a request whose body broke off, should anybody still see it."""
    refusal = ClientProtocolError(
        f"sent less than it announced ({error})", expected="as many bytes as Content-Length says", clause="RFC 9112 6.3"
    )
    refusal.__cause__ = error
    return refusal
