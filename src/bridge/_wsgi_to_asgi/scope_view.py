"""`environ["asgi.scope"]`: the scope, safe to print."""

from collections.abc import Iterator, MutableMapping
from typing import Any


class ScopeView(MutableMapping[str, Any]):
    """The scope of the request, with a `repr` that hides its values.

    Debug pages and logs that print an environ know which of its keys are secret, but print nested values unchanged. The
    scope also contains cookies and tokens. This is not a `dict`, because such pages walk through dicts.
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self._scope = scope

    def __getitem__(self, key: str) -> Any:
        return self._scope[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._scope[key] = value

    def __delitem__(self, key: str) -> None:
        del self._scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)

    def __repr__(self) -> str:
        return f"<the ASGI scope: {', '.join(self._scope)}>"
