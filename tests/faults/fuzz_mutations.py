"""Damage to bytes, to JSON, and to names on disk."""

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

TEXTS = [
    "", ".", "..", "../../outside/victim.json", "/etc/passwd", "~/x", "a/b", "a\\b", "nul\0byte",
    "half \ud800", "\x1b[2J\x1b]0;owned\x07", "two\nlines", "\r", "\u202eright to left", "\ufeff",
    "</script><script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "<!--", "-->", "&lt;",
    "javascript:alert(1)", "{{7*7}}", "${x}", "%s%n", "=1+1", "__proto__", "__class__", "x" * 300,
    "y" * 70_000, "😀", "nan", "1e5", "-1", "true", "null", "CON", "\N{NO-BREAK SPACE}",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63),
    -(2**64), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e300, 1.7976931348623157e308,
]  # fmt: skip
TOKENS = [
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "1" + "0" * 400 + ".5", "01",
    "1.", "+1", "0x10", "'a'", "undefined", "", "[" * 50_000, "[" * 70 + "]" * 70, '{"a":' * 3000,
    "[" * 5000 + "]" * 5000, '"\\ud800"', '"\\u0000"', '"\\x41"', "\x00", "/* */ 1", "[1,]",
    '{"a" 1}',
]  # fmt: skip
_TWIN = "\x01twin"


def damage_bytes(rng: Random, content: bytes) -> bytes:
    """One to four of: bits turned, cuts, pieces moved, numbers written over, things put in."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_ON_BYTES)(rng, found)
    return bytes(found)


def damage_json(rng: Random, content: bytes) -> bytes:
    """The same JSON text with one to three edits that know its structure."""
    tree = json.loads(content)
    raw: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _edited(rng, tree, raw)
    text = json.dumps(tree, separators=rng.choice(((",", ":"), (", ", ": "))))
    text = text.replace(json.dumps(_TWIN)[1:-1], "")
    for number, token in enumerate(raw):
        text = text.replace(f'"\\u0002{number}\\u0002"', token)
    return text.encode("utf-8", "surrogatepass")


def damage_text(rng: Random, content: bytes) -> bytes:
    """JSON edited by its structure mostly, by its bytes otherwise."""
    if rng.random() < 0.25:
        return damage_bytes(rng, content)
    try:
        return damage_json(rng, content)
    except (ValueError, RecursionError):
        return damage_bytes(rng, content)


def hostile(rng: Random) -> Any:
    """A value of any kind."""
    return rng.choice(
        [
            lambda: rng.choice(TEXTS),
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice([None, True, False, [], {}, [[]], [None], [{}], {"": {}}]),
            lambda: [rng.choice(NUMBERS) for _ in range(rng.randrange(5))],
            lambda: {rng.choice(TEXTS): rng.choice(NUMBERS) for _ in range(3)},
        ]
    )()


def displace(rng: Random, path: Path, outside: Path) -> None:
    """Put something that is no file of one's own under a name: a link, a pipe, a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    match rng.randrange(8):
        case 0:
            path.symlink_to(outside / rng.choice(sorted(p.name for p in outside.iterdir())))
        case 1:
            path.symlink_to(outside)
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.symlink_to("nowhere")
        case 5:
            os.mkfifo(path)
        case 6:
            path.mkdir()
        case 7:
            with path.open("wb") as file:
                file.truncate(1 << 40)


def _flip(rng: Random, found: bytearray) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)


def _cut(rng: Random, found: bytearray) -> None:
    del found[rng.randrange(len(found) + 1) :]


def _move(rng: Random, found: bytearray) -> None:
    start, place = (rng.randrange(len(found) + 1) for _ in range(2))
    piece = found[start : start + rng.randrange(1, 64)]
    if rng.random() < 0.5:
        found[place:place] = piece
    else:
        found[place : place + len(piece)] = piece


def _overwrite(rng: Random, found: bytearray) -> None:
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, 2**7, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)) % 2 ** (8 * size)
    place = rng.randrange(len(found) + 1)
    found[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _insert(rng: Random, found: bytearray) -> None:
    place = rng.randrange(len(found) + 1)
    found[place:place] = rng.choice(
        (rng.randbytes(8), b"\0" * 100, b"\xff\xfe", b"NaN", b"\n", b'"')
    )


def _remove(rng: Random, found: bytearray) -> None:
    place = rng.randrange(len(found) + 1)
    del found[place : place + rng.randrange(1, 32)]


def _append(rng: Random, found: bytearray) -> None:
    found += rng.choice((found[:], b"\0" * 4096, rng.randbytes(64), b"\n{}", b"[" * 2000))


_ON_BYTES = (_flip, _flip, _cut, _move, _overwrite, _insert, _remove, _append)


def _edited(rng: Random, tree: Any, raw: list[str]) -> Any:
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return hostile(rng)
    parent, key = rng.choice(places)
    match rng.randrange(10):
        case 0 | 1 | 2:
            parent[key] = hostile(rng)
        case 3 | 4:
            parent[key] = f"\x02{len(raw)}\x02"
            raw.append(rng.choice(TOKENS))
        case 5:
            del parent[key]
        case 6 if isinstance(parent, dict):  # the same key twice
            parent[f"{key}{_TWIN}"] = rng.choice((parent[key], hostile(rng)))
        case 7 if isinstance(parent, dict):  # another name for it
            parent[rng.choice(TEXTS)] = parent.pop(key)
        case 8:  # something from elsewhere in the file
            other, name = rng.choice(places)
            parent[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else 0))
        case _:
            parent[key] = [parent[key]] if rng.random() < 0.5 else {"a": parent[key]}
    return tree


def _places(tree: Any) -> Any:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])
