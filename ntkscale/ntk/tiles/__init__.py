"""A kernel too large for memory, written to disk block by block.

stream        compute the blocks that are missing and return the file as a memory map
verify        the blocks of a finished file that are no longer what was computed
fingerprint   a name for everything a kernel depends on: equal exactly where that is equal
"""

from ntkscale.ntk.tiles.check import verify
from ntkscale.ntk.tiles.fingerprint import fingerprint
from ntkscale.ntk.tiles.stream import stream

__all__ = ["fingerprint", "stream", "verify"]
