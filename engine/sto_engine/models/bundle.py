"""A trained model on disk: a folder whose `bundle.json` names every other file by sha256.

    bundle.json         versions, policy, feature contract, sha256 of the rest
    forest.ubj          the trees, XGBoost UBJSON
    priors.safetensors  small tables that the policy needs
    card.json           what it was trained on and how good it was

Nothing in it is executed on load, and no byte of it is used before its hash has been checked.
"""

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sto_engine.errors import BadData, CannotCreate, InputMissing, OutputFailed
from sto_engine.files import canonical_json, write_atomic

BUNDLE_VERSION = 1
FILES = ("forest.ubj", "priors.safetensors", "card.json")


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; `bundle_id` is the start of the sha256 of its `bundle.json`."""

    path: Path
    bundle_id: str
    meta: dict[str, Any]
    forest: bytes
    card: dict[str, Any]

    @property
    def features(self) -> list[str]:
        return list(self.meta["features"])


def load_bundle(path: Path) -> Bundle:
    """Read and check a bundle; InputMissing (66) where there is none, BadData (65) for one that is not whole."""
    head = _read(path / "bundle.json", path)
    try:
        meta = json.loads(head)
    except ValueError as error:
        raise BadData(
            f"bundle {path} must hold a bundle.json; found no JSON in it ({error}); train it again"
        ) from error
    version = meta.get("bundle_version") if isinstance(meta, dict) else None
    if version != BUNDLE_VERSION:
        raise BadData(f"bundle {path} must be of version {BUNDLE_VERSION}; found {version}; train it again")
    bodies = {name: _read(path / name, path) for name in FILES}
    for name, body in bodies.items():
        expected, found = meta.get("files", {}).get(name), hashlib.sha256(body).hexdigest()
        if expected != found:
            raise BadData(f"bundle file {path / name} must have sha256 {expected}; found {found}; train it again")
    body = canonical_json({key: value for key, value in meta.items() if key != "sha256"})
    if meta.get("sha256") != hashlib.sha256(body).hexdigest():
        raise BadData(f"bundle {path / 'bundle.json'} was changed after it was written; train it again")
    bundle_id = hashlib.sha256(head).hexdigest()[:16]
    return Bundle(path, bundle_id, meta, bodies["forest.ubj"], json.loads(bodies["card.json"]))


def _read(file: Path, bundle: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        if file.name == "bundle.json":
            raise InputMissing(f"{bundle} holds no bundle.json; make a bundle with: sto-engine train") from error
        raise BadData(f"bundle {bundle} lacks {file.name}; train it again") from error
    except OSError as error:
        raise InputMissing(f"bundle {bundle} cannot be read: {error.strerror}; check --bundle") from error


def save_bundle(path: Path, meta: dict[str, Any], forest: bytes, card: dict[str, Any]) -> str:
    """Write a bundle whole or not at all (a former one is replaced); returns its bundle_id."""
    from safetensors.numpy import save

    bodies = {"forest.ubj": forest, "priors.safetensors": save({}), "card.json": canonical_json(card)}
    meta = {
        **meta,
        "bundle_version": BUNDLE_VERSION,
        "files": {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()},
    }
    meta["sha256"] = hashlib.sha256(canonical_json(meta)).hexdigest()
    bodies["bundle.json"] = canonical_json(meta)
    if path.exists() and any(path.iterdir()) and not (path / "bundle.json").exists():
        raise CannotCreate(f"{path} is a folder with other files; name a new folder or an old bundle in --bundle")
    fresh, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{kind}") for kind in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise CannotCreate(f"bundle {path} cannot be created: {error.strerror}; check --bundle") from error
    try:
        for name, body in bodies.items():
            write_atomic(fresh / name, body)
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    except OSError as error:
        raise OutputFailed(f"bundle {path} cannot be written: {error.strerror}; check the disk") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return hashlib.sha256(bodies["bundle.json"]).hexdigest()[:16]
