"""Memory that a bucket gives back is kept for the next one."""

import ctypes
import ctypes.util

import pyarrow as pa

# glibc's numbers of the parameters of mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST, _IDLE = 32 << 20, 128 << 20


def keep_freed_memory() -> bool:
    """Let arrays up to 32 MiB come from memory that was freed before, instead of from the system anew each time.

    A bucket takes and frees the same few dozen MiB as the one before it; the system clears every page it hands out,
    which took a tenth of a night. Arrow takes from the same, so that there is one reserve of such memory and not two.
    True where the C library is glibc, which can be told so; elsewhere nothing happens.
    """
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    pa.set_memory_pool(pa.system_memory_pool())
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST) and library.mallopt(_TRIM_THRESHOLD, _IDLE))  # type: ignore[union-attr]
