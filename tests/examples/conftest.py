"""What the tests of the chat share: the example, as its make verbs start it."""

from collections.abc import Iterator

import pytest

from support.chat import SETTINGS, nobody_is_here
from support.example_process import Site
from support.lookout import SERVERS, lookout


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    """The example, for the tests that leave it running."""
    with lookout(server, SETTINGS) as place, place.serving("--chat") as running:
        yield running
        output = "".join(running.output)
        assert "Traceback" not in output, output


@pytest.fixture
def empty(site: Site) -> Site:
    """The same, where nobody is in the chat; a server may notice only late that pages have gone."""
    assert site.once(nobody_is_here), "".join(site.output)
    return site
