"""Path prefixes, by tables."""

from typing import Any

import pytest

from bridge.mounts._prefixes import Prefixes, checked

PREFIXES = ("", "/api", "/api/v2", "/api/v2/deep/er", "/apiv3", "/über")
PATHS = [
    ("/", ""),
    ("", ""),
    ("/x", ""),
    ("/api", "/api"),
    ("/api/", "/api"),
    ("/api/x", "/api"),
    ("/apix", ""),
    ("/apiv3/x", "/apiv3"),
    ("/api/v2", "/api/v2"),
    ("/api/v2x", "/api"),
    ("/api/v2/deep", "/api/v2"),
    ("/api/v2/deep/er/x", "/api/v2/deep/er"),
    ("//api/x", ""),
    ("/api//v2", "/api"),
    ("/api/../v2", "/api"),
    ("/./api", ""),
    ("/x/api/v2", ""),
    ("/API", ""),
    ("/über/x", "/über"),
    ("/%C3%BCber", ""),
    ("api", ""),
    ("*", ""),
    ("/api\n", ""),
]


@pytest.mark.parametrize(("path", "prefix"), PATHS)
def test_the_longest_prefix_wins_and_ends_with_a_segment(path: str, prefix: str) -> None:
    assert prefix == Prefixes({prefix: prefix for prefix in PREFIXES}).find(path)


@pytest.mark.parametrize(("path", "prefix"), PATHS)
def test_without_a_root_the_rest_is_nowhere(path: str, prefix: str) -> None:
    assert (prefix or None) == Prefixes({prefix: prefix for prefix in PREFIXES if prefix}).find(path)


def test_no_prefixes_no_entry() -> None:
    assert Prefixes({}).find("/x") is None


def test_a_long_path_is_not_looked_at_further_than_the_prefixes_reach() -> None:
    """A path of thousands of segments must not take thousands of look-ups, each as long as the path."""

    class Counting(str):  # noqa: SLOT000 - what is counted is of the class
        finds = 0

        def find(self, *args: Any) -> int:
            Counting.finds += 1
            return super().find(*args)

    assert "/a" == Prefixes({"/a": "/a", "/b/c": "/b/c"}).find(Counting("/a" * 10_000))
    assert 2 == Counting.finds


class TestChecked:
    @pytest.mark.parametrize(
        ("prefix", "becomes"), [("/", ""), ("/a", "/a"), ("/a/b c", "/a/b c"), ("/ü", "/ü"), ("/100%", "/100%")]
    )
    def test_prefixes(self, prefix: str, becomes: str) -> None:
        assert becomes == checked(prefix)

    @pytest.mark.parametrize(
        ("prefix", "error", "words"),
        [
            ("", ValueError, '"/" is for all other paths'),
            ("api", ValueError, "must start with a slash"),
            ("/api/", ValueError, "write '/api', not"),
            ("//", ValueError, "write '/', not"),
            ("/a//b", ValueError, 'no empty, "." or ".." segment'),
            ("/a/../b", ValueError, 'no empty, "." or ".." segment'),
            ("/./a", ValueError, 'no empty, "." or ".." segment'),
            ("/a?b", ValueError, "without %-escapes, query or fragment"),
            ("/a#b", ValueError, "without %-escapes, query or fragment"),
            ("/a%20b", ValueError, "without %-escapes, query or fragment"),
            ("/\udcff", ValueError, "no surrogates"),
            (None, TypeError, "must be a str, got None"),
            (b"/api", TypeError, "must be a str, got b'/api'"),
        ],
    )
    def test_what_is_no_prefix_is_refused(self, prefix: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match="path prefix") as raised:
            checked(prefix)

        assert words in str(raised.value)
