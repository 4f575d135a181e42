"""A lock on the folder of a run: one trainer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rotvq.errors import UserError
from rotvq.run_folder import LOCK


class RunLock:
    """The lock of a run's folder. The system releases it when the process ends in any way.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, thread_local=False)

    def acquire(self) -> None:
        """Take the lock, unless this object holds it already. Creates the folder.

        Raises:
            UserError: another process holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock.is_locked:
            return
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self._folder}: expected a run that no other process is training; one is "
                "training it now. Wait until it ends, stop it, or choose another --out."
            ) from None

    @contextmanager
    def until_failure(self, acquire: bool) -> Iterator[None]:
        """Take the lock, and release it if the body raises.

        Args:
            acquire: whether this process takes the lock; the main process does so for all.

        Raises:
            UserError: another process holds it.
        """
        if acquire:
            self.acquire()
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock, if it is held."""
        self._lock.release(force=True)
