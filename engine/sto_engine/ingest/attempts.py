"""Tries at a piece of work: what one writes lies apart until the command that asked for it takes it over.

    gen-000002/try-<unique>/gen-000002/bucket-0007-0000.parquet   written by a try, in a folder laid out like the store
    gen-000002/bucket-0007-0000.parquet                           named by the command, when the try has won

Work that seems lost with its machine is done again elsewhere while the first try may still be writing. So no try writes
to a final name and no two to the same; what a late one leaves is never named, and `remove_leftovers` finds it.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sto_engine.errors import OutputFailed
from sto_engine.files import writing
from sto_engine.ingest.write import new_folder

_PREFIX = "try-"


@contextmanager
def attempt(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` for this try alone, with a name that no other has; gone after an error."""
    path = new_folder(folder / f"{_PREFIX}{uuid.uuid4().hex}")
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def adopt(path: Path, target: Path) -> None:
    """Give a file of a winning try its final name; the folder is for the caller to sync.

    OutputFailed (74) where the file is not there.
    """
    with writing(target):
        try:
            os.replace(path, target)
        except FileNotFoundError as error:
            raise not_shared(path) from error


def not_shared(path: Path) -> OutputFailed:
    """What it means that a file or folder of a winning try is not there."""
    return OutputFailed(
        f"{path} was written by a worker and is not to be seen from here; all machines of a cluster must share the "
        "store's folder: put it on shared storage"
    )


def adopt_all(folder: Path, root: Path, names: Iterable[str]) -> None:
    """Give files of the try in `folder` the same names below `root`."""
    for name in names:
        adopt(folder / name, root / name)


def remove_attempts(folder: Path) -> None:
    """Remove what is left of tries inside `folder`, of losers as well."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
