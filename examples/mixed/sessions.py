"""The session of the old application, for the new one: the same cookie, signed with the same key."""

from typing import Any

from fastapi import HTTPException, Request, Response
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import BadSignature, URLSafeTimedSerializer

import legacy


def _serializer() -> URLSafeTimedSerializer:
    serializer = SecureCookieSessionInterface().get_signing_serializer(legacy.app)
    assert serializer is not None, "the old application has a secret key"
    return serializer


def read(request: Request) -> dict[str, Any]:
    """The session of a request. Empty if there is none, or if its signature is wrong or too old."""
    cookie = request.cookies.get(legacy.app.config["SESSION_COOKIE_NAME"])
    if cookie is None:
        return {}
    max_age = int(legacy.app.permanent_session_lifetime.total_seconds())
    try:
        return dict(_serializer().loads(cookie, max_age=max_age))
    except BadSignature:
        return {}


def write(response: Response, session: dict[str, Any]) -> None:
    """Send the session along with a response."""
    name = legacy.app.config["SESSION_COOKIE_NAME"]
    response.set_cookie(name, _serializer().dumps(session), path="/", httponly=True, samesite="lax")


def who(request: Request) -> str:
    """The name in the session. The response is 401 if there is none."""
    name = read(request).get("name")
    if not name:
        raise HTTPException(401, "log in at /")
    return str(name)
