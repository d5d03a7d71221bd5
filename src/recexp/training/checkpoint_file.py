"""A checkpoint on disk: written atomically, verified by a checksum, loaded without running code."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import shutil
import struct
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, cast

import torch

from recexp.errors import CheckpointError
from recexp.storage.atomic import atomic_file, sync_directory, temporary_path

_MARK = b"recexp-sha256:"
_CHUNK = 1 << 20
FORMAT = 1
#: The checkpoint that was the last one before.
PREVIOUS = "previous.ckpt"


class _Hashing(io.RawIOBase):
    """Writes through and hashes; torch's archive writer only ever appends."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest = stream, hashlib.sha256()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


def save(state: dict[str, Any], path: Path, *, keep: Path | None = None) -> None:
    """Write a checkpoint; the previous file of that name survives until the new one is whole and on disk.

    ``keep`` becomes another name of that previous file, at the moment in which the new one is complete.
    The sha256 of the archive becomes the archive's own comment, so that one rename publishes both.

    Raises:
        CheckpointError: It cannot be written; names the reason and, on a full disk, the space that is needed.
    """
    try:
        with atomic_file(path) as stream:
            hashing = _Hashing(stream)
            try:
                torch.save(_on_host(state), cast(IO[bytes], hashing))
            except RuntimeError:
                # torch hides the disk's own error behind one about its archive.
                if hashing.error is None:
                    raise
                raise hashing.error from None
            comment = _MARK + hashing.digest.hexdigest().encode()
            # The archive ends with the length of its comment, 0 so far.
            stream.seek(-2, os.SEEK_END)
            stream.write(struct.pack("<H", len(comment)) + comment)
            if keep is not None and path.exists():
                link(path, keep)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write checkpoint {path}: {error}. The previous checkpoint is untouched. Make room or choose "
            "another folder with paths.root=PATH, then start again with resume=true."
        ) from error


def _on_host(node: Any) -> Any:
    """The same state in host memory: it is read on machines without the device, or without its back end.

    torch-npu, for one, saves a tensor of its own in a way that only torch-npu can read.
    """
    if isinstance(node, torch.Tensor):
        return node.cpu()
    if isinstance(node, dict):
        moved = copy.copy(node)
        moved.update({key: _on_host(value) for key, value in node.items()})
        return moved
    if type(node) in (list, tuple):
        return type(node)(_on_host(value) for value in node)
    return node


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, in one step; a copy where the file system has no hard links.

    Raises:
        CheckpointError: It cannot be done.
    """
    temporary = temporary_path(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"Cannot keep {source} as {target}: {error}.") from error
    sync_directory(target.parent)


def verify(path: Path) -> None:
    """Compare a checkpoint with its checksum.

    Raises:
        CheckpointError: It is missing, cut off or altered.
    """
    length = len(_MARK) + 64
    digest = hashlib.sha256()
    try:
        remaining = path.stat().st_size - length - 2
        with path.open("rb") as stream:
            while remaining > 0 and (chunk := stream.read(min(_CHUNK, remaining))):
                digest.update(chunk)
                remaining -= len(chunk)
            tail = stream.read(2 + length)
    except OSError as error:
        raise CheckpointError(f"Cannot read checkpoint {path}: {error}.") from error
    digest.update(b"\0\0")
    if tail[2:] != _MARK + digest.hexdigest().encode():
        raise CheckpointError(f"Checkpoint {path} is damaged or was not written by recexp: its checksum is wrong.")


def load(path: Path) -> dict[str, Any]:
    """Read a verified checkpoint into host memory; plain types and tensors only.

    Raises:
        CheckpointError: It is damaged, of another format, or holds more than plain types.
    """
    verify(path)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, zipfile.BadZipFile, OSError, EOFError, UnpicklingError) as error:
        raise CheckpointError(f"Cannot load checkpoint {path}: {error}.") from error
    made = state.get("recexp", {})
    if made.get("format") != FORMAT:
        raise CheckpointError(
            f"Checkpoint {path} has format {made.get('format')!r}, written by recexp {made.get('version')!r}; this "
            f"recexp reads format {FORMAT}. Use the version that wrote it, or train afresh."
        )
    return state
