"""How the process of a load holds memory: what a large load took is given back when it ends."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_LARGE_PIECE = 256 * 1024


def give_memory_back() -> None:
    """Let Arrow take memory from the system and not from a pool of its own, which keeps 70 MB of a large load, and let
    the system's allocator give large pieces back at once: among smaller ones they leave holes of 150 MB.
    """
    import pyarrow as pa

    if pa.default_memory_pool().backend_name != "system":
        pa.set_memory_pool(pa.system_memory_pool())
        with suppress(AttributeError, OSError):  # an allocator other than glibc's has no such switch
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_PIECE)
