"""Trained models on disk: training the headline forest takes a minute, a benchmark is run many times."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def folder() -> Path:
    """The cache folder: $XDG_CACHE_HOME/sto-bench or ~/.cache/sto-bench; made when it is not there."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sto-bench"
    root.mkdir(parents=True, exist_ok=True)
    return root


def keyed(kind: str, facts: dict[str, object], suffix: str) -> Path:
    """The path of what `facts` (all that decides its content, versions too) describe; it may not exist yet."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return folder() / f"{kind}-{digest}{suffix}"


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made by `make(temporary path)` when it does not exist; a killed run leaves no half of it."""
    if not path.exists():
        temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
        make(temporary)
        os.replace(temporary, path)
    return path
