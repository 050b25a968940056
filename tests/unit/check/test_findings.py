"""What a check has found: said in one sentence, once."""

from bridge._check.findings import Finding, Outcome, of_error
from bridge.errors import ApplicationProtocolError, ServerProtocolError


def test_a_finding_says_whose_fault_it_is() -> None:
    facts = {"did": "did this", "expected": "that", "clause": "PEP 3333, X", "state": "then"}

    assert "did this then; expected that (PEP 3333, X)" == str(of_error(ApplicationProtocolError(**facts)))
    assert "the server did this then; expected that (PEP 3333, X)" == str(of_error(ServerProtocolError(**facts)))


def test_a_finding_is_kept_once() -> None:
    """The validator, the adapter and the server's side may all see the same."""
    outcome = Outcome("GET /")
    first, other = Finding("did this", "that", "PEP 3333, X"), Finding("did this", "that", "PEP 3333, Y")
    for each in (first, Finding("did this", "that", "PEP 3333, X"), other):
        outcome.note(each)

    assert [first, other] == outcome.findings


def test_an_outcome_as_json() -> None:
    outcome = Outcome("GET /", "200")
    outcome.note(Finding("did this", "that", "PEP 3333, X"))

    found = {"did": "did this", "expected": "that", "clause": "PEP 3333, X"}
    assert {"asked": "GET /", "ended": "200", "findings": [found]} == outcome.as_dict()


def test_outcomes_share_no_findings() -> None:
    first, second = Outcome("GET /"), Outcome("HEAD /")
    first.note(Finding("did this", "that", "PEP 3333, X"))

    assert [] == second.findings
