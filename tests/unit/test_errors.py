"""The errors: who is to blame, what is said, what is kept, and what else may catch them."""

import copy
import errno
import inspect
import pickle
import re
from typing import Any

import pytest

from bridge import errors
from bridge.errors import (
    ApplicationProtocolError,
    ClientDisconnected,
    ClientProtocolError,
    LifespanFailed,
    ProtocolError,
    ServerProtocolError,
)

PARTIES = [
    (ProtocolError, "a party"),
    (ApplicationProtocolError, "the application"),
    (ServerProtocolError, "the server"),
    (ClientProtocolError, "the client"),
]


def facts(error: BaseException) -> tuple[object, ...]:
    """All that an error says and keeps."""
    names = ("did", "state", "expected", "clause", "party", "status", "errno", "__notes__")
    return type(error), str(error), error.args, [getattr(error, name, None) for name in names]


class TestProtocolErrors:
    @pytest.mark.parametrize(("kind", "party"), PARTIES)
    def test_the_message_is_made_of_the_facts(self, kind: type[ProtocolError], party: str) -> None:
        """Who did what, what was expected, and the clause."""
        error = kind("yielded str", expected="bytes", clause="PEP 3333, A Note On String Types")
        assert f"{party} yielded str; expected bytes (PEP 3333, A Note On String Types)" == str(error)

    @pytest.mark.parametrize("kind", [ProtocolError, ApplicationProtocolError, ServerProtocolError])
    def test_the_state_is_said_where_there_is_one(self, kind: type[ProtocolError]) -> None:
        """It follows what was done."""
        error = kind("sent a body", state="before its start", expected="a start", clause="ASGI HTTP")
        assert f"{kind.party} sent a body before its start; expected a start (ASGI HTTP)" == str(error)

    @pytest.mark.parametrize(("kind", "party"), PARTIES)
    def test_the_facts_are_attributes(self, kind: type[ProtocolError], party: str) -> None:
        """So that nobody has to take a message apart."""
        error = kind("did", expected="other", clause="c")
        assert ("did", "", "other", "c", party) == (error.did, error.state, error.expected, error.clause, error.party)

    @pytest.mark.parametrize(("kind", "_party"), PARTIES)
    def test_one_class_catches_all_of_them(self, kind: type[ProtocolError], _party: str) -> None:
        """And none of them is any other kind of error."""
        assert issubclass(kind, ProtocolError)
        assert not issubclass(kind, OSError | RuntimeError | ValueError | TypeError)

    @pytest.mark.parametrize(("given", "status"), [({}, 400), ({"status": 413}, 413), ({"status": 503}, 503)])
    def test_what_a_client_did_has_a_status_to_refuse_it_with(self, given: dict[str, int], status: int) -> None:
        """RFC 9110 15.5.1: 400 where nothing fits better."""
        assert status == ClientProtocolError("did", expected="other", clause="c", **given).status


class TestClientDisconnected:
    def test_it_is_an_oserror_that_servers_know(self) -> None:
        """ASGI HTTP, Disconnected Client: an OSError; ECONNRESET is the end of a client and no fault."""
        error = ClientDisconnected()
        assert isinstance(error, ConnectionResetError)
        assert (errno.ECONNRESET, "the client left") == (error.errno, error.strerror)

    def test_the_message_may_say_when(self) -> None:
        """It is what is logged."""
        assert "the client left early" in str(ClientDisconnected("the client left early"))

    def test_nobody_broke_a_contract(self) -> None:
        """A client may leave."""
        assert not issubclass(ClientDisconnected, ProtocolError)


class TestLifespanFailed:
    def test_it_is_a_runtimeerror(self) -> None:
        """The application said that it cannot run."""
        assert isinstance(LifespanFailed("no database"), RuntimeError)
        assert "no database" == str(LifespanFailed("no database"))


class TestAll:
    def test_the_tree_in_the_docstring_is_the_tree(self) -> None:
        """Each class, with its base where that is not ours, below its base where it is."""
        documented = re.findall(r"^ {4}(\+-- )?(\w+)(?:\((\w+)\))?(?: {2}|$)", errors.__doc__ or "", re.MULTILINE)
        assert sorted(errors.__all__) == sorted(name for _, name, _ in documented)
        for branch, name, base in documented:
            kind: Any = getattr(errors, name)
            assert bool(branch) is (issubclass(kind, ProtocolError) and kind is not ProtocolError)
            assert not base or base in [ancestor.__name__ for ancestor in kind.__mro__]

    def test_all_names_each_class(self) -> None:
        """And nothing else is public."""
        own = [
            value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__
        ]
        assert {each.__name__ for each in own} == set(errors.__all__)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
    @pytest.mark.parametrize(
        "error",
        [
            ProtocolError("did", state="then", expected="other", clause="c"),
            ApplicationProtocolError("did", state="then", expected="other", clause="c"),
            ServerProtocolError("did", expected="other", clause="c"),
            ClientProtocolError("did", expected="other", clause="c", status=431),
            LifespanFailed("no database"),
            ClientDisconnected(),
            ClientDisconnected("the client left early"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_an_error_survives_a_copy(self, error: Exception, copied: Any) -> None:
        """Executors of processes, test runners and error reporters pickle or copy what is raised; notes go along."""
        error.__notes__ = ["seen by a test"]
        assert facts(error) == facts(copied(error))
