"""Switches off the telemetry of dependencies before they are imported.

onnxruntime sends events and keeps an identifier of the device in the user's cache. The clients of
the Hugging Face Hub report the machine, its packages and transfers, and count how often a dataset
is loaded. To enable one of them again, set its environment variable yourself.
"""

from __future__ import annotations

import os

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}


def switch_off() -> None:
    """Set those variables that are unset. The libraries read them when they are imported."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
