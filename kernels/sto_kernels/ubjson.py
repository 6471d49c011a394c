"""UBJSON (draft 12) as XGBoost writes it -> Python values; hostile bytes raise ValueError and nothing else.

Strongly typed arrays ([$type#count) become numpy arrays. Every length is checked against the bytes that are left, so
a corrupt count cannot allocate; nesting is limited.
"""

from typing import Any

import numpy as np

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS: dict[bytes, Any] = {b"Z": None, b"T": True, b"F": False}
_MAX_DEPTH = 64


def loads(data: bytes) -> Any:
    """The value that `data` holds; ValueError says where it stops making sense."""
    reader = _Reader(data)
    value = reader.value(reader.take(1), 0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow the value at byte {reader.at}")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"{count} bytes expected at byte {self.at}; {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} at byte {self.at}")
        if kind in _NUMBERS:
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        if kind == b"S":
            return self.text()
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind == b"{":
            return self.members(depth)
        if kind == b"[":
            return self.items(depth)
        raise ValueError(f"unknown type marker {kind!r} at byte {self.at - 1}")

    def length(self) -> int:
        count = self.value(self.take(1), _MAX_DEPTH)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(self.data):
            raise ValueError(f"a length is expected at byte {self.at}; found {count!r}")
        return count

    def text(self) -> str:
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"text before byte {self.at} is not UTF-8") from error

    def members(self, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            name = self.text()
            out[name] = self.value(self.take(1), depth + 1)
        self.take(1)
        return out

    def items(self, depth: int) -> Any:
        head = self.data[self.at : self.at + 1]
        if head == b"$":
            return self.typed()
        if head == b"#":
            self.take(1)
            return [self.value(self.take(1), depth + 1) for _ in range(self.length())]
        out = []
        while self.data[self.at : self.at + 1] != b"]":
            out.append(self.value(self.take(1), depth + 1))
        self.take(1)
        return out

    def typed(self) -> Any:
        self.take(1)
        kind = self.take(1)
        if kind not in _NUMBERS or self.take(1) != b"#":
            raise ValueError(f"a typed array needs a number type and a count; found {kind!r} at byte {self.at}")
        dtype = np.dtype(_NUMBERS[kind])
        values = np.frombuffer(self.take(self.length() * dtype.itemsize), dtype)
        return values.astype(dtype.newbyteorder("="))
