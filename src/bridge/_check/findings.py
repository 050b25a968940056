"""What a check has found: the request, what the application did, what was expected, and the clause."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.errors import ApplicationProtocolError, ProtocolError


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken clause."""

    did: str
    expected: str
    clause: str

    def __str__(self) -> str:
        return f"{self.did}; expected {self.expected} ({self.clause})"


Note = Callable[[Finding], None]


@dataclass(slots=True)
class Outcome:
    """One row of the report: the request, how it ended, and which clauses were broken."""

    asked: str
    ended: str = ""
    findings: list[Finding] = field(default_factory=list)

    def note(self, finding: Finding) -> None:
        """Keep a finding once: the validator, the adapter and the server's side may all see the same one."""
        if finding not in self.findings:
            self.findings.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)


def of_error(error: ProtocolError) -> Finding:
    """The finding for a protocol error."""
    party = "" if isinstance(error, ApplicationProtocolError) else f"{error.party} "
    state = f" {error.state}" if error.state else ""
    return Finding(f"{party}{error.did}{state}", error.expected, error.clause)
