"""Path prefixes, and how to find the longest one for a path."""

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")

_QUOTED = re.compile("%[0-9A-Fa-f]{2}")


class Prefixes(Generic[Entry]):
    """Finds the entry of the longest prefix of a path, cut between segments only.

    Prefixes are "", or start with a slash and do not end with one. The time depends on the number of segments of the
    longest prefix, not on the number of prefixes or on the length of the path.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._table = {prefix: entry for prefix, entry in entries.items() if prefix}
        self._root = entries.get("")
        self._depths = range(max((prefix.count("/") for prefix in entries), default=0))

    def find(self, path: str) -> Entry | None:
        """The entry for `path`, or None if no prefix matches."""
        found = self._root
        cut = 0
        for _ in self._depths:
            cut = path.find("/", cut + 1)
            entry = self._table.get(path if cut < 0 else path[:cut])
            if entry is not None:
                found = entry
            if cut < 0:
                break
        return found


def checked(prefix: Any) -> str:
    """The prefix that a user wrote, with "" for "/". Raises `TypeError` or `ValueError`, which say what to write
    instead.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"a path prefix must be a str, got {prefix!r:.80}")
    if prefix == "/":
        return ""
    segments = prefix.split("/")
    if segments[0] or len(segments) == 1:
        raise ValueError(f'a path prefix must start with a slash ("/" is for all other paths), got {prefix!r:.80}')
    if prefix.endswith("/"):
        meant = prefix.rstrip("/") or "/"
        raise ValueError(f"a path prefix must not end with a slash: write {meant!r:.80}, not {prefix!r:.80}")
    if not {"", ".", ".."}.isdisjoint(segments[1:]):
        raise ValueError(f'a path prefix must have no empty, "." or ".." segment, got {prefix!r:.80}')
    if "?" in prefix or "#" in prefix or _QUOTED.search(prefix):
        raise ValueError(f"a path prefix is a decoded path, without %-escapes, query or fragment, got {prefix!r:.80}")
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a path prefix must have no surrogates, got {prefix!r:.80}") from None
    return prefix
