"""The content of a run folder in a form that can be compared bit for bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from rotvq.report import write_report


def outcome(folder: Path) -> dict[str, Any]:
    """Everything in a run folder except times and durations."""
    found = torch.load(folder / "checkpoint.pt", weights_only=True)
    position = found.pop("position")
    records = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert len(records) == position["epoch"]
    for record in [*records, *position["history"]]:
        assert record.pop("timing")["images_per_second"] > 0
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation.pop("seconds") >= 0
    made = json.loads((folder / "run.json").read_text())
    assert made.pop("started") and made.pop("git") is not False
    pictures = sorted((folder / "reconstructions").iterdir())
    return {
        "checkpoint": _plain(found),
        "position": json.dumps(position),  # as text, in which nan equals nan
        "weights": (folder / "model.safetensors").read_bytes(),
        "made": made,
        "config": (folder / "config.yaml").read_text(),
        "records": records,
        "evaluation": evaluation,
        "pictures": {picture.name: picture.read_bytes() for picture in pictures},
        "files": sorted(path.name for path in folder.iterdir()),
    }


def report_of(folder: Path) -> dict[str, bytes]:
    """The files of a run's report, with its path and all times replaced by constants."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "run"
        shutil.copytree(folder, copy)
        lines = (copy / "epochs.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        timed = [{**each, "timing": dict.fromkeys(each["timing"], 1.0)} for each in records]
        (copy / "epochs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in timed))
        _set(copy / "evaluation.json", seconds=1.0)
        _set(copy / "run.json", started="2000-01-01T00:00:00+00:00")
        write_report([copy], copy)
        files = [copy / "report.md", copy / "report.html", *sorted((copy / "figures").iterdir())]
        return {path.name: path.read_bytes().replace(str(copy).encode(), b"RUN") for path in files}


def _set(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _plain(value: Any) -> Any:
    """Nested state with tensors as bytes, so that == compares every bit, including nan."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
