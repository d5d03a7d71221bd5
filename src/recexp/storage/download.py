"""Verified downloads that continue where they stopped and never leave a half file under the final name."""

from __future__ import annotations

import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recexp.errors import DataError
from recexp.storage.archive import looks_like_web_page
from recexp.storage.atomic import explain_full_disk, sync_directory
from recexp.storage.checksum import sha256_file

Progress = Callable[[str, int, int | None], None]
"""Called with (what is done, units done so far, units in all or None where unknown)."""

_BLOCK = 1 << 18
_log = logging.getLogger(__name__)


class _Interrupted(Exception):
    """The transfer broke off for a reason that may pass: try again from where it stopped."""


@dataclass(frozen=True)
class Patience:
    """How long a download waits and how often it tries again."""

    timeout_s: float = 10.0
    attempts: int = 4
    pause_s: float = 0.5


def download(
    url: str, path: Path, sha256: str | None, progress: Progress | None = None, patience: Patience | None = None
) -> None:
    """Fetch ``url`` to ``path``; what was already fetched is kept in ``<path>.part`` and continued.

    The final name appears only after the sum was compared. An address that cannot be reached at all fails at once; a
    stall, a broken connection or a server error is tried again a few times. Call it under a lock where several
    processes may want the same file.

    Args:
        url: http or https.
        path: Where the file goes; its folder is created.
        sha256: Expected sum in hex; None accepts whatever came (only its being a web page is refused).
        progress: Called as bytes arrive.
        patience: Time-outs and attempts.

    Raises:
        DataError: with the address, the reason and what came instead.
        OSError: the disk refuses.
    """
    patience = patience or Patience()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for fresh in (False, True):
        if fresh:
            part.unlink(missing_ok=True)
        resumed = part.exists() and part.stat().st_size > 0
        _fetch_all(url, part, progress, patience)
        found = sha256_file(part)
        if sha256 is None or found == sha256:
            break
        size = part.stat().st_size
        part.unlink()
        if not resumed or fresh:
            raise DataError(
                f"{url}: the file that came ({size:,} bytes) has sha256 {found}, expected {sha256}. It was deleted. "
                f"The published file may have changed, or something on the way replaced it."
            )
        _log.info("the continued download of %s has a wrong checksum; fetching it afresh", url)
    part.replace(path)
    sync_directory(path.parent)


def _fetch_all(url: str, part: Path, progress: Progress | None, patience: Patience) -> None:
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.pause_s * 2 ** (attempt - 1))
            _log.info("%s: %s; trying again (%d of %d)", url, reason, attempt + 1, patience.attempts)
        try:
            return _fetch(url, part, progress, patience.timeout_s)
        except _Interrupted as error:
            reason = str(error)
    have = part.stat().st_size if part.exists() else 0
    raise DataError(f"{url}: {reason} ({patience.attempts} attempts; {have:,} bytes are kept and will be continued).")


def _fetch(url: str, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """One request: append to ``part`` what the server sends."""
    have = part.stat().st_size if part.exists() else 0
    response = _request(url, have, part, timeout_s)
    if response is None:
        return  # nothing is missing
    with response:
        if response.status != 206:
            have = 0  # the server does not continue: it sends everything
        missing = response.headers.get("Content-Length")
        total = have + int(missing) if missing and missing.isdigit() else None
        have = _append(url, response, part, have, total, progress)
    if total is not None and have < total:
        raise _Interrupted(f"the connection closed after {have:,} of {total:,} bytes")


def _request(url: str, have: int, part: Path, timeout_s: float) -> http.client.HTTPResponse | None:
    """Open the address; None where ``part`` is already complete. Permanent refusals are DataErrors."""
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https addresses are fetched.")
    request = urllib.request.Request(url, headers={"User-Agent": "recexp"})  # noqa: S310 (scheme checked above)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return None
            part.unlink()
            raise _Interrupted("the part that was kept does not fit the file on the server") from error
        if error.code >= 500 or error.code in {408, 429}:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
        raise DataError(f"{url}: the server refused with {error.code} {error.reason}.") from error
    except urllib.error.URLError as error:
        raise DataError(f"{url}: cannot be reached ({error.reason}).") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Interrupted(f"no answer within {timeout_s:.0f} s ({type(error).__name__})") from error
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        response.close()
        part.unlink(missing_ok=True)
        raise _Interrupted("the server continued from another place than was asked for")
    return response


def _append(
    url: str, response: http.client.HTTPResponse, part: Path, have: int, total: int | None, progress: Progress | None
) -> int:
    """Copy the body to the end of ``part`` (from byte ``have``); returns the size it has then."""
    name = url.rsplit("/", 1)[-1]
    stalled: Exception | None = None
    with part.open("r+b" if have else "wb") as sink:
        sink.seek(have)
        while stalled is None:
            try:
                block = response.read1(_BLOCK)
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                stalled = error
                continue
            if not block:
                break
            if have == 0 and _is_web_page(response, block):
                sink.truncate(0)
                raise DataError(
                    f"{url}: a web page came instead of the file (a login, a proxy or a captive portal on the way?)."
                )
            _write(sink, block, part, total)
            have += len(block)
            if progress is not None:
                progress(f"download {name}", have, total)
        sink.truncate()
        sink.flush()
        os.fsync(sink.fileno())
    if stalled is not None:
        raise _Interrupted(f"the transfer stopped after {have:,} bytes ({type(stalled).__name__})") from stalled
    return have


def _is_web_page(response: http.client.HTTPResponse, block: bytes) -> bool:
    return looks_like_web_page(block) or response.headers.get_content_type() == "text/html"


def _write(sink: IO[bytes], block: bytes, part: Path, total: int | None) -> None:
    try:
        sink.write(block)
    except OSError as error:
        explained = explain_full_disk(error, part, total or len(block))
        if explained is error:
            raise
        raise explained from error
