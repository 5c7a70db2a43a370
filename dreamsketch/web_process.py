"""What the web process asks of the system at its start: descriptors, memory that is given back, short slices."""

import contextlib
import ctypes
import gc
import resource
import sys

DESCRIPTORS = 65536
"""As many are asked for; the system may grant fewer."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of <malloc.h>."""
LARGE_BYTES = 256 * 1024
SLICE_SECONDS = 0.001
"""Until a thread hands the interpreter to one that waits. A page waits for it after each query, and by default five
milliseconds for each thread at work."""


def raise_descriptors() -> int:
    """Ask for as many descriptors as this process may have; returns how many it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft if soft != resource.RLIM_INFINITY else DESCRIPTORS


def give_memory_back() -> None:
    """Have glibc return large blocks to the system when they are freed, and keep few arenas.

    By itself it raises the size from which on it does so to that of the largest block it has seen, and gives each of
    the threads that requests run in memory of its own.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        malloc.mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)
        malloc.mallopt(M_ARENA_MAX, 2)


def keep_out_of_collections() -> None:
    """What is loaded now stays: without it each full collection looks at it again, for a fifth of a second in which
    nobody is answered, and many requests at once cause several."""
    gc.collect()
    gc.freeze()


def prepare() -> int:
    """Descriptors, memory and slices; returns how many descriptors there are."""
    sys.setswitchinterval(SLICE_SECONDS)
    give_memory_back()
    return raise_descriptors()
