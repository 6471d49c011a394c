"""The C library is told to keep memory, in a process of its own since it is told once for all."""

import platform
import subprocess
import sys


def test_freed_memory_is_kept_where_the_library_can_be_told() -> None:
    code = "import sys; from sto_engine.memory import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
