"""Connections that close if the client is silent or does not read the response."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0
"""Seconds for a client to complete a request header, or to read some of a response."""

SILENT = 150
"""Connections waiting for a header, at most; beyond that, the oldest is closed."""


class Connection(H11Protocol):
    """uvicorn's HTTP protocol with timeouts for idle connections."""

    since = 0.0
    """When it started to wait for a request header."""
    unsent = 0
    """Bytes of the response that the client had not read at the last check."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        silent = [c for c in self.connections if isinstance(c, Connection) and c.silent]
        if len(silent) > SILENT:
            min(silent, key=lambda connection: connection.since).transport.abort()
        self._schedule_check()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def silent(self) -> bool:
        """Whether it is waiting for a request header."""
        between = self.cycle is None or self.cycle.response_complete
        return between and not self.transport.is_closing()

    def _schedule_check(self) -> None:
        self.loop.call_later(PATIENCE / 2, self._check)

    def _check(self) -> None:
        if self.transport.is_closing():
            return
        unsent = self.transport.get_write_buffer_size()
        late = self.silent and self.loop.time() - self.since > PATIENCE
        if late or (unsent > 0 and unsent == self.unsent):
            self.transport.abort()
            return
        self.unsent = unsent
        self._schedule_check()
