# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server of the fake exchange, and the faults it can inject into its answers."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from fake_exchange import venues
from fake_exchange.truth import Truth


@dataclass(frozen=True)
class Fault:
    """A fault injected into one answer: an HTTP status, a truncated body, or incomplete rows."""

    kind: str
    status: int = 0
    retry_after: int | None = None


class FakeExchange:
    """A running server, used as a context manager.

    Args:
        truths: the market data by symbol (BTC).
        cap: maximum number of rows per answer, whatever limit is requested.
        faults: called with the number of a request (from 0) and its path; returns the fault of its answer, or None.
        skew: milliseconds by which the server's clock is ahead of the data.
    """

    def __init__(
        self, truths: dict[str, Truth], *, cap: int | None = None,
        faults: Callable[[int, str], Fault | None] = lambda _number, _path: None, skew: int = 0,
    ) -> None:  # fmt: skip
        self.truths, self.cap, self.faults, self.skew = truths, cap, faults, skew
        self.calls: list[tuple[str, dict[str, str]]] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"exchange": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, path: str, query: dict[str, str]) -> Fault | None:
        """Record a request and return its fault."""
        with self._lock:
            number = len(self.calls)
            self.calls.append((path, query))
        return self.faults(number, path)

    def spoiled(self, rows: list[Any], fault: Fault | None) -> list[Any]:
        """Return the rows of an answer with a fault applied."""
        if fault is None or len(rows) < 2:
            return rows
        third = max(1, len(rows) // 3)
        return {
            "cut at the end": lambda: rows[:third],
            "cut at the start": lambda: rows[-third:],
            "holes": lambda: rows[:third] + rows[2 * third :],
            "doubled": lambda: [*rows, *rows[:third]],
            "shuffled": lambda: random.Random(1).sample(rows, len(rows)),  # noqa: S311
            "empty": list,
        }.get(fault.kind, lambda: rows)()


class _Handler(BaseHTTPRequestHandler):
    exchange: FakeExchange
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        fault = self.exchange.count(address.path, query)
        if fault is not None and fault.status:
            body, headers = venues.error_body(address.path, fault.status), {}
            if fault.retry_after is not None:
                headers["Retry-After"] = str(fault.retry_after)
            self._send(fault.status, body, headers)
            return
        body = venues.answer(self.exchange, address.path, query, fault)
        if body is None:
            self._send(404, json.dumps({"path": address.path}), {})
        elif fault is not None and fault.kind == "broken off":
            self._send(200, body, {}, sent=len(body) // 2)
        elif fault is not None and fault.kind == "garbled":
            self._send(200, body[: len(body) // 2], {})
        else:
            self._send(200, body, {})

    def _send(self, status: int, body: str, headers: dict[str, str], sent: int | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:sent])
        if sent is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""
