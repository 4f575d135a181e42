"""One trainer a folder, from its beginning to its end."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from rotvq.errors import UserError
from rotvq.training.run_folder import LOCK


class RunLock:
    """The lock of a run's folder. The system releases it when the process ends, however it ends.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, thread_local=False)

    def acquire(self) -> None:
        """Hold the lock; nothing happens if this object holds it already. Makes the folder.

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

    def release(self) -> None:
        """Let go of it, if it is held."""
        self._lock.release(force=True)
