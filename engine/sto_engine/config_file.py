"""One TOML file and what is laid over it -> a checked model of pydantic, whichever sections that has."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sto_engine.errors import ConfigError, InputMissing

_PREFIX = "Value error, "  # what pydantic puts before the words of our own validators
_Model = TypeVar("_Model", bound=BaseModel)


def read_config(kind: type[_Model], path: Path | None, overrides: Iterable[str]) -> _Model:
    """The settings of `path` (all defaults without one) with each "section.key=value" override laid over it.

    Raises ConfigError (78) for a file that is no TOML, an unknown key or a value out of range; InputMissing (66) for a
    file that cannot be read.
    """
    return _checked(kind, _read_toml(path) if path is not None else {}, overrides, path)


def overlay(config: _Model, overrides: Iterable[str]) -> _Model:
    """The same settings with "section.key=value" overrides laid over them; raises ConfigError (78) as `read_config`."""
    return _checked(type(config), config.model_dump(mode="json", exclude_unset=True), overrides, None)


def _checked(kind: type[_Model], tree: dict[str, Any], overrides: Iterable[str], path: Path | None) -> _Model:
    for override in overrides:
        _apply(tree, override)
    _refuse_unknown(kind, tree, path)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputMissing(f"configuration {path} cannot be read: {error.strerror}; check --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is not valid TOML: {error}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or not section or not key:
        raise ConfigError(f'--set expects section.key=value; found "{override}"')
    *parents, leaf = [section, *key.split(".")]
    node: Any = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f'--set {override}: "{parent}" is not a section')
    node[leaf] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value; bare words are strings, so that `--set model.policy=histogram` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown(model: type[BaseModel], tree: Mapping[str, Any], path: Path | None) -> None:
    known = model.model_fields
    for section, body in tree.items():
        if section not in known:
            raise ConfigError(_unknown(section, known, path, "section"))
        if not isinstance(body, dict):
            raise ConfigError(f"[{section}] must be a table of keys; found {body!r}{_in(path)}")
        kind = known[section].annotation
        keys = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
        for key in body:
            if key not in keys:
                raise ConfigError(_unknown(f"{section}.{key}", [f"{section}.{k}" for k in keys], path, "key"))


def _unknown(name: str, known: Iterable[str], path: Path | None, kind: str) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f'unknown configuration {kind} "{name}"{_in(path)}; nearest known: "{near[0]}"; all: {", ".join(names)}'


def _in(path: Path | None) -> str:
    return f" in {path}" if path is not None else ""


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        lines.append(f"{where}: {item['msg'].removeprefix(_PREFIX)}; found {item['input']!r}")
    return f"configuration{_in(path)} is not valid: " + " | ".join(lines)
