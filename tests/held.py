"""In a worker process: one call of a function of the engine waits, so that its machine can be taken meanwhile.

`hook` is what Ray runs when a worker starts; it is told by the environment, as clusters.Nodes.config sets it.

HOLD         module:name or module:Class.name of what waits
HOLD_CALL    which call waits, of all that the workers make; default: the first
HOLD_AFTER   "1": it waits with its work done but not told
HOLD_FOLDER  where `held` says which machine it is on, `calls` has a line for each call, and `released` ends the wait
STUBS        names of the same form, with spaces between, that do nothing
"""

import os
import time
from collections.abc import Callable
from functools import reduce, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

WAIT_S = 300.0


def hook() -> None:
    for name in os.environ.get("STUBS", "").split():
        _replace(name, lambda function: lambda *args, **rest: None)
    if "HOLD" in os.environ:
        _replace(os.environ["HOLD"], _held)


def _replace(name: str, by: Callable[[Any], Any]) -> None:
    module, _, path = name.partition(":")
    *owners, leaf = path.split(".")
    owner = reduce(getattr, owners, import_module(module))
    setattr(owner, leaf, by(getattr(owner, leaf)))


def _held(function: Callable[..., Any]) -> Callable[..., Any]:
    folder, after = Path(os.environ["HOLD_FOLDER"]), os.environ.get("HOLD_AFTER") == "1"

    @wraps(function)
    def held(*args: Any, **rest: Any) -> Any:
        is_chosen = _count(folder) == int(os.environ.get("HOLD_CALL", "1"))
        if is_chosen and not after:
            _wait(folder)
        found = function(*args, **rest)
        if is_chosen and after:
            _wait(folder)
        return found

    return held


def _count(folder: Path) -> int:
    """Calls so far, with this one."""
    line = f"{os.getpid():>12}\n"
    with (folder / "calls").open("a") as file:
        file.write(line)
        return file.tell() // len(line)


def _wait(folder: Path) -> None:
    import ray

    made = folder / "held.tmp"
    made.write_text(ray.get_runtime_context().get_node_id())
    made.rename(folder / "held")
    until = time.monotonic() + WAIT_S
    while not (folder / "released").exists() and time.monotonic() < until:
        time.sleep(0.05)
