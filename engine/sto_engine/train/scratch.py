"""The folder of one training, beside its bundle, where every machine sees it: sums, rows, margins, forests.

    .BUNDLE.training-UUID/LOCK    held by the training; a folder whose lock is free belongs to one that was killed

Every file has a name of its own (`fresh`), so work that is done twice never meets itself.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sto_engine.errors import CannotCreate, TryLater
from sto_engine.files import folder_lock


@contextmanager
def work_folder(bundle: Path) -> Iterator[Path]:
    """A new folder, gone when the block ends; what killed trainings of the same bundle left goes first.

    Raises CannotCreate (73) where the folder of the bundle does not take folders.
    """
    home, mark = bundle.absolute().parent, f".{bundle.absolute().name}.training-"
    for left in home.iterdir() if home.is_dir() else ():
        if left.name.startswith(mark):
            _remove_if_dead(left)
    folder = home / f"{mark}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise CannotCreate(f"bundle {bundle} cannot be created: {error.strerror}; check --bundle") from error
    try:
        with folder_lock(folder, "training"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh(folder: Path, stem: str, suffix: str) -> Path:
    """A name in `folder` that no other attempt has."""
    return folder / f"{stem}.{uuid.uuid4().hex[:16]}{suffix}"


def _remove_if_dead(left: Path) -> None:
    # its owner writes into LOCK once it holds it, so an empty one may belong to a training that begins just now
    with suppress(OSError, TryLater, CannotCreate):
        if (left / "LOCK").stat().st_size:
            with folder_lock(left, "training"):
                shutil.rmtree(left, ignore_errors=True)
