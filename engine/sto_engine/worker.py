"""What a worker process of a cluster does with a bucket: the work of the phase is unpickled once, errors are values."""

import logging
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sto_engine.engine_code import code_facts
from sto_engine.errors import Unavailable
from sto_engine.memory import keep_freed_memory


@dataclass(frozen=True)
class Home:
    """What a worker must share with the driver: its code, and the folder that relative paths are meant from."""

    code: Mapping[str, str]
    folder: str

    @classmethod
    def of_this_process(cls) -> "Home":
        return cls(code_facts(), os.getcwd())

    def enter(self) -> None:
        """Make this process work as the driver would. Unavailable (69) where it runs other code: the same inputs would
        make other bytes."""
        found = code_facts()
        other = [f"{name} {found.get(name)} for {told}" for name, told in self.code.items() if found.get(name) != told]
        if other:
            raise Unavailable(
                f"workers must run what the driver runs; found {', '.join(other)}; install the same everywhere"
            )
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        keep_freed_memory()


@dataclass(frozen=True)
class Done:
    """What a try brings home: a value or an error, from which machine, and what the kernels had to say."""

    node: str
    value: Any = None
    error: Exception | None = None
    trace: str = ""
    warnings: tuple[str, ...] = ()


_loaded: dict[str, Any] = {}  # the work of the phase under way
_loading = threading.Lock()  # a worker of a GPU has several threads


def attempt(node: str, phase: str, load: Callable[[], Any], home: Home, arguments: tuple[Any, ...]) -> Done:
    """`work(*arguments)` of the work that `load` gives; `phase` names it."""
    heard, log = _Heard(), logging.getLogger("sto_kernels")
    log.addHandler(heard)
    try:
        with _loading:
            if phase not in _loaded:
                home.enter()
                work = load()
                _loaded.clear()
                _loaded[phase] = work
            work = _loaded[phase]
        value = work(*arguments)
        return Done(node, value, warnings=tuple(heard.lines))
    except Exception as error:
        return Done(node, None, error, traceback.format_exc(), tuple(heard.lines))
    finally:
        log.removeHandler(heard)


class _Heard(logging.Handler):
    """Warnings of the kernels while a bucket is worked on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
