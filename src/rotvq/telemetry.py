"""What the libraries we load would report to their makers, switched off before they are loaded.

onnxruntime sends events and keeps an identifier of the device in the user's cache. The clients of
the Hugging Face hub tell it about the machine and its packages, report on transfers, and count
how often a data set is loaded. Whoever sets one of these variables decides for themselves.
"""

from __future__ import annotations

import os

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}


def switch_off() -> None:
    """Set the variables that are not set. The libraries read them as they are imported."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
