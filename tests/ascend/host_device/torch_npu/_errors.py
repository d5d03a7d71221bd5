"""The tail that torch-npu puts behind the text of its errors: a code by which people search."""

import os
import time


def pta_error(code: int, meaning: str) -> str:
    """``pta_error(1, "invalid parameter")`` is the tail with the code ERR00001."""
    when = time.strftime("%Y-%m-%d-%H:%M:%S", time.localtime())
    return f"\n[ERROR] {when} (PID:{os.getpid()}, Device:-1, RankID:-1) ERR00{code:03d} PTA {meaning}"


PARAM = (1, "invalid parameter")
TYPE = (2, "invalid type")
VALUE = (3, "invalid value")
NOT_SUPPORT = (7, "feature not supported")
NOT_FOUND = (8, "resource not found")
