"""A writer of small MaxMind DB files, by the published format (version 2.0): search tree, data section, metadata."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD_BITS = 24
_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 2, 5, 6, 7, 9, 11


class Small(int):
    """An integer to be written as uint16."""


class Large(int):
    """An integer to be written as uint64."""


def _head(kind: int, size: int) -> bytes:
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = (0 if kind > 7 else kind) << 5
    if size < 29:
        return bytes([first | size]) + extended
    assert size < 29 + 256
    return bytes([first | 29]) + extended + bytes([size - 29])


def encode(value: Any) -> bytes:
    """A value of the data section."""
    if isinstance(value, str):
        text = value.encode()
        return _head(_STRING, len(text)) + text
    if isinstance(value, int):
        kind = _UINT16 if isinstance(value, Small) else _UINT64 if isinstance(value, Large) else _UINT32
        digits = int(value).to_bytes((int(value).bit_length() + 7) // 8, "big")
        return _head(kind, len(digits)) + digits
    if isinstance(value, Mapping):
        return _head(_MAP, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())
    return _head(_ARRAY, len(value)) + b"".join(encode(item) for item in value)


def _bits(network: str, version: int) -> str:
    """The path of a network through the tree; IPv4 lies at ::/96 of a tree of version 6."""
    net = ipaddress.ip_network(network)
    width = net.max_prefixlen
    path = f"{int(net.network_address):0{width}b}"[: net.prefixlen]
    return "0" * 96 + path if version == 6 and net.version == 4 else path


def write_mmdb(path: Path, places: Mapping[str, Any], version: int = 6) -> Path:
    """Write the records of disjoint networks, such as {"192.0.2.0/24": {"location": {"time_zone": "Asia/Tokyo"}}}."""
    nodes: list[list[int | bytes | None]] = [[None, None]]
    for network, record in places.items():
        bits, node = _bits(network, version), 0
        for bit in map(int, bits[:-1]):
            if nodes[node][bit] is None:
                nodes.append([None, None])
                nodes[node][bit] = len(nodes) - 1
            following = nodes[node][bit]
            assert isinstance(following, int), f"{network} lies within another network"
            node = following
        nodes[node][int(bits[-1])] = encode(record)
    tree, data = b"", b""
    for pair in nodes:
        for record in pair:
            number = len(nodes) if record is None else record
            if isinstance(record, bytes):
                number = len(nodes) + 16 + len(data)
                data += record
            assert isinstance(number, int)
            tree += number.to_bytes(RECORD_BITS // 8, "big")
    metadata = {
        "node_count": len(nodes),
        "record_size": Small(RECORD_BITS),
        "ip_version": Small(version),
        "database_type": "Test-City",
        "languages": ["en"],
        "binary_format_major_version": Small(2),
        "binary_format_minor_version": Small(0),
        "build_epoch": Large(1_700_000_000),
        "description": {"en": "made by a test"},
    }
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encode(metadata))
    return path
