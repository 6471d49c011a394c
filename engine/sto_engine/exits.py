"""An error -> the exit code and the sentence that a command ends with."""

import errno

from sto_engine.errors import CannotCreate, OutputFailed, StoError

_DISK = {errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def exit_code(error: Exception) -> int:
    """What the process ends with."""
    if isinstance(error, StoError):
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _DISK:
        return OutputFailed.exit_code
    if isinstance(error, OSError) and error.errno in _DENIED:
        return CannotCreate.exit_code
    return StoError.exit_code


def sentence(error: Exception, code: int) -> str:
    """What is told on stderr."""
    if code != StoError.exit_code or isinstance(error, StoError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; this is a defect of the engine, please report it"
