"""Link-only stand-ins of CANN's libraries: torch_npu can be imported and inspected, and finds no device.

Every function answers that it is not supported, but for the few that an import calls.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .cache import digest, published
from .linked import Wanted, tool, wanted

#: CANN's ACL_ERROR_FEATURE_UNSUPPORTED.
UNSUPPORTED = 200006
ANSWERS = {
    "aclInit": "int aclInit(const char *path) { return 0; }",
    "aclFinalize": "int aclFinalize(void) { return 0; }",
    "aclrtGetDeviceCount": "int aclrtGetDeviceCount(unsigned *count) { *count = 0; return 0; }",
    "aclrtGetSocName": 'const char *aclrtGetSocName(void) { return "Ascend910B1"; }',
    "aclGetRecentErrMsg": 'const char *aclGetRecentErrMsg(void) { return "a link-only stand-in, not CANN"; }',
    "MsprofRegisterCallback": "int MsprofRegisterCallback(unsigned module, void *callback) { return 0; }",
}


def build(site: Path) -> Path:
    """The folder with the stand-ins, for a child's LD_LIBRARY_PATH.

    Raises:
        Missing: No C compiler.
    """
    asked = wanted(site)
    source = text(asked)
    return published(
        f"link-only-{digest(source, *asked.libraries)}", lambda target: compile_into(target, source, asked)
    )


def text(asked: Wanted) -> str:
    """The C source: one function for each symbol."""
    return "".join(ANSWERS.get(name, f"long {name}() {{ return {UNSUPPORTED}; }}") + "\n" for name in asked.symbols)


def compile_into(target: Path, source: str, asked: Wanted) -> None:
    """One library holds the functions; the others are empty and only have to be found."""
    compiler = tool("gcc")
    (target / "functions.c").write_text(source)
    (target / "empty.c").write_text("")
    for name in asked.libraries:
        code = target / ("functions.c" if name == "libascendcl.so" else "empty.c")
        command = [compiler, "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(target / name), str(code)]
        subprocess.run(command, check=True, capture_output=True)
