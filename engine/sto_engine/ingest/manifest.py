"""The shape of a store's manifest, checked when it is opened: whoever reads it further on relies on every field."""

import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_BUCKETS = 8192
ID_TYPES = ("uint64", "int64", "string")
_NAME = re.compile(r"(gen|recipients)-\d{6,}")

Check = Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bucket_count(value: Any) -> bool:
    return _is_count(value) and 1 <= value <= MAX_BUCKETS and value & (value - 1) == 0


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


_FILE: dict[str, Check] = {"bucket": _is_count, "path": _is_text, "rows": _is_count, "sha256": _is_text}
_SOURCE: dict[str, Check] = {"name": _is_text, "sha256": _is_text}
_TABLE: dict[str, Check] = {"name": _is_name, "rows": _is_count, "files": lambda v: isinstance(v, list)}
_GENERATION: dict[str, Check] = {**_TABLE, "sources": lambda v: isinstance(v, list), "newest_event_ms": _is_time}
_SNAPSHOT: dict[str, Check] = {
    **_TABLE,
    "number": _is_count,
    "keep": lambda v: isinstance(v, list) and all(map(_is_text, v)),
    "quarantined": lambda v: isinstance(v, dict),
}
_STORE: dict[str, Check] = {
    "hash": lambda v: isinstance(v, list),
    "id_type": ID_TYPES.__contains__,
    "campaign_type": ID_TYPES.__contains__,
    "buckets": _is_bucket_count,
    "generations": lambda v: isinstance(v, list),
    "recipients": lambda v: v is None or isinstance(v, dict),
    "newest_event_ms": _is_time,
}
_OPTIONAL: dict[str, dict[str, Check]] = {
    "pseudonyms": {"bits": (64, 128).__contains__, "key_fingerprint": _is_text},
    "erasure": {"number": _is_count},
    "blocked": {"key": _is_text, "entries": lambda v: isinstance(v, list) and all(map(_is_text, v))},
}


def fault_of(manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with a manifest of our version, such as "generations[0].files[2].rows"; None for a whole one."""
    if fault := _first(manifest, _STORE, ""):
        return fault
    for place, generation in enumerate(manifest["generations"]):
        if fault := _table_fault(generation, _GENERATION, f"generations[{place}]", manifest["buckets"]):
            return fault
        for number, source in enumerate(generation["sources"]):
            if fault := _first(source, _SOURCE, f"generations[{place}].sources[{number}]"):
                return fault
    snapshot = manifest["recipients"]
    if snapshot and (fault := _table_fault(snapshot, _SNAPSHOT, "recipients", manifest["buckets"])):
        return fault
    found = (_first(manifest[name], checks, name) for name, checks in _OPTIONAL.items() if name in manifest)
    return next((fault for fault in found if fault), None)


def _table_fault(table: Any, checks: dict[str, Check], where: str, buckets: int) -> str | None:
    if fault := _first(table, checks, where):
        return fault
    head = f"{table['name']}/"
    for place, file in enumerate(table["files"]):
        here = f"{where}.files[{place}]"
        if fault := _first(file, _FILE, here):
            return fault
        path = file["path"]
        if file["bucket"] >= buckets or not path.startswith(head) or "/" in path.removeprefix(head):
            return f"{here}.bucket" if file["bucket"] >= buckets else f"{here}.path"
    return None


def _first(found: Any, checks: dict[str, Check], where: str) -> str | None:
    """The first field that is absent or fails its check, under the name `where`."""
    if not isinstance(found, Mapping):
        return where or "all of it"
    for name, check in checks.items():
        try:
            if name in found and check(found[name]):
                continue
        except TypeError:  # a list has no hash to be looked up by
            pass
        return f"{where}.{name}" if where else name
    return None
