"""Damage to files of arrays that know their headers: safetensors and npy."""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from tests.faults import fuzz_mutations as mutations


def damage_safetensors(
    rng: Random, content: bytes, inner: Callable[[Random, dict[str, Any]], None] | None = None
) -> bytes:
    """A safetensors file with a damaged header, body or both.

    Args:
        rng: decides.
        content: a whole file.
        inner: edits the metadata of the header in place.
    """
    if rng.random() < 0.15:
        return mutations.damage_bytes(rng, content)
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    if inner is not None and rng.random() < 0.6:
        inner(rng, header["__metadata__"])
    elif header:
        for _ in range(rng.choice((1, 1, 2))):
            _damage_entry(rng, header, rng.choice(list(header)), len(body))
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        text = mutations.damage_text(rng, text)
    length = (
        len(text) if rng.random() < 0.95 else rng.choice((0, 7, 2**27, 2**40, 2**63, 2**64 - 1))
    )
    body = body if rng.random() < 0.8 else mutations.damage_bytes(rng, body or b"x")
    return struct.pack("<Q", length) + text + body


def damage_npy(rng: Random, content: bytes) -> bytes:
    """An `.npy` file (version 1) with a damaged header, body or both."""
    if rng.random() < 0.15:
        return mutations.damage_bytes(rng, content)
    (length,) = struct.unpack("<H", content[8:10])
    text, body = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    for _ in range(rng.choice((1, 1, 2))):
        part = rng.choice(("descr", "shape", "fortran", "text", "none"))
        if part == "descr":
            text = text.replace(_between(text, "'descr': ", ", 'fortran"), rng.choice(_DTYPES))
        elif part == "shape":
            text = text.replace(_between(text, "'shape': ", ", }"), rng.choice(_SHAPES))
        elif part == "fortran":
            text = text.replace("False", rng.choice(("True", "1", "None", "[]")))
        elif part == "text":
            text = rng.choice(_HEADERS)
    header = text.encode("latin-1", "replace")
    version = rng.choice(
        (b"\1\0", b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\xff\xff")
    )
    size = len(header) if rng.random() < 0.95 else rng.randrange(1 << 16)
    packed = struct.pack("<H", size & 0xFFFF) if version == b"\1\0" else struct.pack("<I", size)
    body = body if rng.random() < 0.8 else mutations.damage_bytes(rng, body or b"x")
    return b"\x93NUMPY" + version + packed + header + body


def _damage_entry(rng: Random, header: dict[str, Any], name: str, size: int) -> None:
    entry = header[name]
    if not isinstance(entry, dict):
        return
    match rng.randrange(5):
        case 0:
            entry["dtype"] = rng.choice(_TENSOR_TYPES)
        case 1:
            entry["shape"] = rng.choice(
                (
                    [],
                    [0],
                    [0, 2**62],
                    [2**62, 0],
                    [2**63],
                    [2**32, 2**32],
                    [-1],
                    [size],
                    [1] * 99,
                    3,
                )
            )
        case 2:
            entry["data_offsets"] = rng.choice(
                (
                    [0, 0],
                    [0, size],
                    [size, 0],
                    [1, size],
                    [0, 2**62],
                    [-1, 4],
                    [0],
                    "0",
                    [0, size + 8],
                )
            )
        case 3:  # of no bytes, where an empty tensor may lie
            entry |= {"shape": rng.choice(([0], [0, 2**40], [2**62, 0])), "data_offsets": [0, 0]}
        case 4:
            header[rng.choice(mutations.TEXTS)] = (
                header.pop(name) if rng.random() < 0.5 else dict(entry)
            )


def _between(text: str, start: str, end: str) -> str:
    """What stands there; something that is nowhere in the text if it does not."""
    _, found, rest = text.partition(start)
    part, there, _ = rest.partition(end)
    return part if found and there and part else "\x00"


_TENSOR_TYPES = (
    *("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "U64", "U16", "C64", "F8_E4M3"),
    *("F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "X9", "", 7, None),
)
_SHAPES = (
    *(
        "()",
        "(0,)",
        "(0, 2)",
        "(-1,)",
        "(-4, -5)",
        "(4611686018427387904, 4)",
        "(10**9,)",
        "(1e3,)",
    ),
    *(
        "(1000000000000,)",
        "(9223372036854775807, 9223372036854775807)",
        f"({'1, ' * 70})",
        "[4, 2]",
    ),
    *("(True, 2)", "(4, None)", "'4'", "(2, 0, 4611686018427387904)", f"({'9' * 400},)", "(4)"),
    *("(20, 2)", "(2, 20)", "(40,)", "(12, 32, 32, 3)", "(1, 32, 32, 3)", "(12,)"),
)
_DTYPES = (
    *("'<f8'", "'>f8'", "'<f4'", "'<f2'", "'<f16'", "'<c16'", "'|O'", "'O8'", "'|S8'", "'<U2'"),
    *(
        "'|V8'",
        "'<i8'",
        "'|u1'",
        "'|b1'",
        "'<M8[s]'",
        "'<m8[D]'",
        "'<f99'",
        "''",
        "None",
        "8",
        "[]",
    ),
    *("[('a', '<f8')]", "[('a', '|O')]", "[('a',)]", "('<f8', (2,))", "('<f8', (10**9,))", "'|S0'"),
    *("[('a', '<f8', (1000000000, 1000000000))]", "{'a': 1}", "('<f8',)", "[[]]", "'<U1000000000'"),
    *("'f8,f8'", "'i4, (2,3)f8'", "'>u8'", "'|i1'"),
)
_HEADERS = (
    *(
        "",
        "{",
        "{}",
        "[]",
        "1",
        "{'descr': '<f8'}",
        "-" * 9000 + "1",
        "(" * 9000,
        "[" * 300,
        "x\0y",
    ),
    *("{[]: 1}", "{1: 2, 'a': 3}", "__import__('os').system('touch hacked')", "{**{}}", "1" * 9000),
    *("{'descr': '<f8', 'fortran_order': False, 'shape': (20L, 2L), }", "{'descr'" + " " * 70_000),
    *(
        "{'descr': open('hacked', 'w'), 'fortran_order': False, 'shape': (), }",
        "\xff\xfe",
        "lambda: 0",
    ),
)
