"""A server on this machine that can misbehave in every way a real one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CONTENT = bytes(range(256)) * 4000
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Server:
    """``mode`` is consumed request by request, the last one stays; ``ranges`` collects what was asked for."""

    def __init__(self) -> None:
        self.modes = ["whole"]
        self.content = CONTENT
        self.ranges: list[str | None] = []
        self.url = ""

    def next_mode(self) -> str:
        return self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        mode = self.state.next_mode()
        asked = self.headers.get("Range")
        self.state.ranges.append(asked)
        if mode.isdigit():
            self.send_error(int(mode))
            return
        body = PAGE if mode.startswith("page") else self.state.content
        start = 0
        if asked and mode != "no_range":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if asked and mode != "no_range" else 200)
        if asked and mode != "no_range":
            place = 0 if mode == "other_place" else start
            self.send_header("Content-Range", f"bytes {place}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", "text/html" if mode == "page" else "application/zip")
        self.end_headers()
        part = body[start:]
        if mode == "cut":
            part = part[: len(part) // 2]
        elif mode == "stall":
            self.wfile.write(part[: len(part) // 3])
            self.wfile.flush()
            time.sleep(1.0)
            return
        self.wfile.write(part)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("Bound", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        listening.handle_error = lambda *arguments: None
        state.url = f"http://127.0.0.1:{listening.server_port}/files/set.zip"
        thread = threading.Thread(target=lambda: listening.serve_forever(poll_interval=0.01))
        thread.start()
        yield state
        listening.shutdown()
        thread.join()
