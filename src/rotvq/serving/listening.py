"""Where the page listens, and by which names it may be asked for."""

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
"""Connections at a time; one more is told to come later."""

LOCAL = ("127.0.0.1", "localhost")
NAME = r"(\*\.)?[A-Za-z0-9][A-Za-z0-9.-]*"


class Address(NamedTuple):
    """An address of this machine, as it was asked for.

    Args:
        ip: of IPv4.
        names: by which browsers may ask for the page there, the one to tell first.
    """

    ip: str
    names: tuple[str, ...]

    @property
    def local(self) -> bool:
        """Whether this machine alone can reach it."""
        return ip_address(self.ip).is_loopback


def resolve(host: str, names: Sequence[str] = ()) -> Address:
    """The address that a host stands for, however it is spelled.

    Args:
        host: a name or an address of IPv4.
        names: more names by which others ask for it.

    Raises:
        UserError: it stands for none, or for all addresses of this machine and there are no names.
    """
    for name in names:
        if not re.fullmatch(NAME, name):
            raise UserError(f"--name: expected a name or an address of IPv4; got {name!r}.")
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter of what can be no name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host: expected a name or an address of IPv4; got {host!r} ({reason})."
        ) from None
    ip = str(found[0][4][0])
    if ip_address(ip).is_unspecified:
        if not names:
            raise UserError(
                f"--host {host}: expected --name too, as it stands for every address of this "
                "machine: the name or address by which others will ask for the page; other names "
                "are refused."
            )
        own: tuple[str, ...] = ()
    else:
        own = (ip if ip == host or not re.fullmatch(NAME, host) else host, ip)
    return Address(ip, tuple(dict.fromkeys(n.lower() for n in (*own, *names, *LOCAL))))


def listen(address: Address, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: the port is taken, or the address is not of this machine.
    """
    try:
        return socket.create_server((address.ip, port))
    except OSError as error:
        raise UserError(
            f"--host {address.ip} --port {port}: expected a free address; "
            f"{error.strerror or error}. Choose another port, or 0 for any."
        ) from None


class _Server(uvicorn.Server):
    """Does not wait for requests on its way out."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self.server_state.tasks:
            task.cancel()
        await super().shutdown(sockets)


def server(app: Starlette) -> uvicorn.Server:
    """What serves the application; `run(sockets=[...])` it."""
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
