"""What this machine gives a process: memory that stays where it was freed."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_freed_memory_is_kept_where_the_library_can_be_told() -> None:
    """In a process of its own: 64 MiB that are freed and asked for again cost no fresh pages."""
    code = (
        "import resource, sys; from recexp.devices import host; import numpy as np\n"
        "told = host.keep_freed_memory() if sys.argv[1] == 'kept' else True\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(1 << 23); before = faults()\n"
        "for _ in range(10): np.ones(1 << 23)\n"
        "print(int(told), faults() - before)"
    )
    run = [subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True).stdout.split()
           for word in ("kept", "usual")]  # fmt: skip
    (told, kept), (_, usual) = [[int(value) for value in one] for one in run]
    if not told:
        pytest.skip("this C library cannot be told")
    assert kept < usual / 10


def test_the_peak_of_memory_is_seen_and_forgotten() -> None:
    """In a process of its own: in this one, a command before may have left memory that need not be asked for."""
    code = (
        "from recexp.devices import host\n"
        "can_forget = host.reset_peak_rss(); before = host.peak_rss_bytes()\n"
        "block = bytearray(64 << 20); block[::4096] = b'x' * len(block[::4096])\n"
        "peak = host.peak_rss_bytes(); del block; host.reset_peak_rss()\n"
        "print(int(can_forget), peak - before, host.peak_rss_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    can_forget, seen, left = map(int, done.stdout.split())
    assert seen > 60 << 20
    assert not can_forget or left < 32 << 20
