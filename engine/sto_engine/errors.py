"""Every error that the engine raises on purpose, each family with its exit code (BSD sysexits).

    StoError                      70  anything below, never raised itself
    |-- UsageError                 2  a flag or argument that makes no sense
    |-- BadData                   65  rows, files or a bundle that contradict their contract
    |   `-- FingerprintMismatch   65  an input changed under a run
    |-- InputMissing              66  a file or folder that is not there or cannot be read
    |-- Unavailable               69  a library, Ray or a GPU that is not to be had
    |-- CannotCreate              73  an output that cannot be created
    |-- OutputFailed              74  an I/O error or a full disk while writing
    |-- TryLater                  75  a lock held by another run, or a run stopped part-way and resumable
    `-- ConfigError               78  a configuration that cannot be run

A message says what was expected, what was found, where, and what to do about it.
Only the command line turns an error into text and an exit code.
"""


class StoError(Exception):
    """Root of the tree; `exit_code` is what the process ends with."""

    exit_code = 70


class UsageError(StoError):
    exit_code = 2


class BadData(StoError):
    exit_code = 65


class FingerprintMismatch(BadData):
    pass


class InputMissing(StoError):
    exit_code = 66


class Unavailable(StoError):
    exit_code = 69


class CannotCreate(StoError):
    exit_code = 73


class OutputFailed(StoError):
    exit_code = 74


class TryLater(StoError):
    exit_code = 75


class ConfigError(StoError):
    exit_code = 78
