"""How long work tells how far it is: the protocol that every stage reports to, and its silent form.

The command line owns the two visible forms (a bar on a terminal, JSON lines elsewhere), so nothing below it imports a
terminal library. Fields are counts, names of files and phases: never ids or addresses of recipients.
"""

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress; implementations are safe to call from several threads."""

    def start(self, phase: str, total: int) -> None:
        """A phase of `total` steps begins."""

    def advance(self, phase: str, steps: int = 1) -> None:
        """`steps` more steps of the phase are done."""

    def info(self, event: str, **fields: object) -> None:
        """Something worth a log line happened."""

    def warn(self, event: str, **fields: object) -> None:
        """Something the operator should look at happened."""


class Silent:
    """Progress that goes nowhere: the default of the library."""

    def start(self, phase: str, total: int) -> None: ...

    def advance(self, phase: str, steps: int = 1) -> None: ...

    def info(self, event: str, **fields: object) -> None: ...

    def warn(self, event: str, **fields: object) -> None: ...
