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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.errors import BadData, CannotCreate, InputMissing, OutputFailed
from sto_engine.files import canonical_json, write_atomic
from sto_engine.models.priors import Priors, from_tensors

BUNDLE_VERSION = 2
FILES = ("forest.ubj", "priors.safetensors", "card.json")


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; `bundle_id` is the start of the sha256 of its `bundle.json`."""

    path: Path
    bundle_id: str
    meta: dict[str, Any]
    forest: bytes
    card: dict[str, Any]
    tensors: dict[str, NDArray[Any]]

    @property
    def features(self) -> list[str]:
        return list(self.meta["features"])

    @property
    def preset(self) -> str | None:
        """The baseline recipe it was trained by; None for the engine's own."""
        preset = self.meta.get("preset")
        return None if preset is None else str(preset)

    @property
    def policy(self) -> str:
        """The policy that it was trained for."""
        return str(self.meta.get("policy", "boosted"))

    @cached_property
    def priors(self) -> Priors:
        """The tables that are usual for everyone; BadData (65) where one is missing or misshapen."""
        return from_tensors(self.tensors, f"bundle {self.path}")

    def table(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """One table of the priors file; BadData (65) where it is missing or of another shape."""
        found = self.tensors.get(name)
        if found is None or found.shape != shape or not np.isfinite(found).all():
            raise BadData(f"bundle {self.path} must hold a finite table {name} of shape {shape}; train it again")
        return found


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
    tensors = read_tensors(bodies["priors.safetensors"], f"bundle {path}")
    return Bundle(path, bundle_id, meta, bodies["forest.ubj"], json.loads(bodies["card.json"]), tensors)


def read_tensors(body: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Arrays by name of safetensors bytes; BadData (65) for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(body))
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadData(f"{where} must hold tensors as safetensors; found {error}; make it again") from error


def tensor_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as safetensors: the same bytes for the same arrays."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}))


def _read(file: Path, bundle: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        if file.name == "bundle.json":
            raise InputMissing(f"{bundle} holds no bundle.json; make a bundle with: sto-engine train") from error
        raise BadData(f"bundle {bundle} lacks {file.name}; train it again") from error
    except OSError as error:
        raise InputMissing(f"bundle {bundle} cannot be read: {error.strerror}; check --bundle") from error


def save_bundle(
    path: Path, meta: dict[str, Any], forest: bytes, tensors: Mapping[str, NDArray[Any]], card: dict[str, Any]
) -> str:
    """Write a bundle whole or not at all (a former one is replaced); returns its bundle_id."""
    bodies = {"forest.ubj": forest, "priors.safetensors": tensor_bytes(tensors), "card.json": canonical_json(card)}
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
