"""The address that the server listens on, and the host names that it accepts."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette

from rotvq.errors import UserError
from rotvq.serving.connection import Connection

CLIENTS = 200
"""Maximum number of open connections; further clients get an error that asks to try later."""

LOCAL = ("127.0.0.1", "localhost")
NAME = r"(\*\.)?[A-Za-z0-9][A-Za-z0-9.-]*"


class Address(NamedTuple):
    """An address of this machine.

    Args:
        ip: its IPv4 address.
        names: host names that the server accepts; the first is shown to the user.
    """

    ip: str
    names: tuple[str, ...]

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.ip).is_loopback


def resolve(host: str, names: Sequence[str] = ()) -> Address:
    """Resolve a host.

    Args:
        host: a host name or an IPv4 address.
        names: more host names to accept.

    Raises:
        UserError: the host is unknown, or it stands for every address of this machine and there are
            no names.
    """
    for name in names:
        if not re.fullmatch(NAME, name):
            raise UserError(f"--name: expected a host name or an IPv4 address; got {name!r}.")
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError for invalid names
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host: expected a host name or an IPv4 address; got {host!r} ({reason})."
        ) from None
    ip = str(found[0][4][0])
    if ip_address(ip).is_unspecified:
        if not names:
            raise UserError(
                f"--host {host}: expected --name too, as this host stands for every address of the "
                "machine. Pass the host name or address that browsers will use; others are refused."
            )
        own: tuple[str, ...] = ()
    else:
        own = (ip if ip == host or not re.fullmatch(NAME, host) else host, ip)
    return Address(ip, tuple(dict.fromkeys(n.lower() for n in (*own, *names, *LOCAL))))


def listen(address: Address, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        UserError: the port is in use, or the address does not belong to this machine.
    """
    try:
        return socket.create_server((address.ip, port))
    except OSError as error:
        raise UserError(
            f"--host {address.ip} --port {port}: expected an unused address; "
            f"{error.strerror or error}. Choose another port, or 0 for any."
        ) from None


class _Server(uvicorn.Server):
    """Does not wait for running requests when it shuts down."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self.server_state.tasks:
            task.cancel()
        await super().shutdown(sockets)


def server(app: Starlette) -> uvicorn.Server:
    """The server of the application; start it with `run(sockets=[...])`."""
    return _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="error",
            timeout_graceful_shutdown=1,
            limit_concurrency=CLIENTS,
        )
    )
