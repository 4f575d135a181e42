"""One client's connection: it may not be silent for long, nor stop reading its answer."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0
"""Seconds within which the header of a request must be whole, and something of an answer read."""

SILENT = 150
"""Connections that may wait for a header at a time; for one more, the oldest is closed."""


class Connection(H11Protocol):
    """HTTP as uvicorn speaks it, with an end to connections that only take up a place."""

    since = 0.0
    """When it began to wait for the header of a request."""
    unsent = 0
    """Bytes of the answer that the client had not read at the last look."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        silent = [c for c in self.connections if isinstance(c, Connection) and c.silent]
        if len(silent) > SILENT:
            min(silent, key=lambda connection: connection.since).transport.abort()
        self._look_later()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def silent(self) -> bool:
        """Whether it waits for a header, rather than receiving or answering a request."""
        between = self.cycle is None or self.cycle.response_complete
        return between and not self.transport.is_closing()

    def _look_later(self) -> None:
        self.loop.call_later(PATIENCE / 2, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        unsent = self.transport.get_write_buffer_size()
        late = self.silent and self.loop.time() - self.since > PATIENCE
        if late or (unsent > 0 and unsent == self.unsent):
            self.transport.abort()
            return
        self.unsent = unsent
        self._look_later()
