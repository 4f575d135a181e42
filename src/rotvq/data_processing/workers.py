"""Decodes images in worker processes, in the order of the source.

The wanted rows are cut into pieces, which the workers take in turn; each goes through the source
once. What a worker sends waits in its pipe until its turn comes, so memory is bounded.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotvq.data_processing.decoding import Encoded, Findings, attempts
from rotvq.data_processing.reader import Rows
from rotvq.data_processing.resizing import Pixels, Target
from rotvq.errors import UserError

Items = Callable[[Rows], Iterator[Encoded]]
"""As in `Reader`: the images, or those of some rows."""

PIECE = 128
"""Images that a worker decodes before it is the next one's turn."""
PIXELS = 2**20
"""Approximate number of pixels in a message."""
AHEAD = 8
"""Maximum number of messages that a worker decodes ahead."""


class DecodedImage(NamedTuple):
    """An image with its name in the source, class and caption; `pixels` are (c, h, w)."""

    name: str
    pixels: Pixels
    label: int | None
    caption: str | None


class Message(NamedTuple):
    """Decoded images of one size.

    Args:
        items: name, label and caption of each.
        pixels: (n, c, h, w); None without images.
        findings: what was found since the last message.
        is_last: whether the piece ends here.
    """

    items: list[tuple[str, int | None, str | None]]
    pixels: NDArray[np.uint8] | None
    findings: Findings
    is_last: bool


class Decoders:
    """Worker processes that decode ranges of rows; they end with the context.

    Args:
        items: the images of a source by row.
        target: what to convert them to.
        ranges: the rows that will be asked for, in this order.
        workers: processes; 0 decodes in this one.
    """

    def __init__(self, items: Items, target: Target, ranges: Sequence[range], workers: int) -> None:
        self._items, self._target, self._turn = items, target, 0
        pieces = [piece for rows in ranges for piece in _pieces(rows)]
        self._workers = [
            _Worker(items, target, pieces[number::workers])
            for number in range(min(workers, len(pieces)))
        ]

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def images(self, rows: range, findings: Findings) -> Iterator[DecodedImage]:
        """The decoded images of the next range in order; damaged ones are added to the findings.

        Raises:
            UserError: the source is damaged, or a worker ended.
        """
        for message in self._messages(rows):
            findings.skipped += message.findings.skipped
            findings.used_bits = max(findings.used_bits, message.findings.used_bits)
            if message.pixels is not None:
                for item, pixels in zip(message.items, message.pixels, strict=True):
                    name, label, caption = item
                    yield DecodedImage(name, pixels, label, caption)

    def _messages(self, rows: range) -> Iterator[Message]:
        if not self._workers:
            yield from _messages(self._items, self._target, _pieces(rows))
            return
        for _ in _pieces(rows):
            worker = self._workers[self._turn % len(self._workers)]
            self._turn += 1
            while not (message := worker.receive()).is_last:
                yield message
            yield message


class _Worker:
    def __init__(self, items: Items, target: Target, pieces: list[range]) -> None:
        # Spawned, as a fork would copy locks that threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self._pipe, sending = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(sending, items, target, pieces), daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        sending.close()

    def receive(self) -> Message:
        try:
            received = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise UserError(
                "--workers: expected processes that decode images; one ended with status "
                f"{self._process.exitcode}, perhaps for lack of memory. Run the command again with "
                "fewer of them: finished shards are kept."
            ) from None
        if isinstance(received, Exception):
            raise received
        assert isinstance(received, Message)
        return received

    def end(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts inside is not interrupted before it can say that it need not be."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(sending: Connection, items: Items, target: Target, pieces: list[range]) -> None:
    """Send the images of some pieces; ends when the receiver does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one acts
    warnings.filterwarnings("ignore", module="PIL")
    ahead = queue.Queue[Message | Exception | None](AHEAD)

    def send() -> None:
        while (message := ahead.get()) is not None:
            try:
                sending.send(message)
            except OSError:
                os._exit(0)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        for message in _messages(items, target, pieces):
            ahead.put(message)
    except Exception as error:
        ahead.put(error)
    ahead.put(None)
    sender.join()


def _messages(items: Items, target: Target, pieces: list[range]) -> Iterator[Message]:
    rows = np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])
    findings = Findings()
    found = attempts(items(rows), target, findings)
    for piece in pieces:
        group: list[tuple[Encoded, Pixels]] = []
        count = 0
        for item, pixels in islice(found, len(piece)):
            count += 1
            if pixels is None:
                continue
            if group and (
                pixels.shape != group[0][1].shape or len(group) * pixels[0].size >= PIXELS
            ):
                yield _message(group, findings, is_last=False)
                group = []
            group.append((item, pixels))
        if count < len(piece):
            raise UserError(
                f"data: expected {len(piece)} images from number {piece.start:,} on; got {count}. "
                "Do not change the data while it is read."
            )
        yield _message(group, findings, is_last=True)


def _message(group: list[tuple[Encoded, Pixels]], findings: Findings, is_last: bool) -> Message:
    """The group and the findings, which are cleared."""
    since = Findings([*findings.skipped], findings.used_bits)
    findings.skipped.clear()
    items = [(item.name, item.label, item.caption) for item, _ in group]
    pixels = np.stack([pixels for _, pixels in group]) if group else None
    return Message(items, pixels, since, is_last)


def _pieces(rows: range) -> list[range]:
    return [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)]
