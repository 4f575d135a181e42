"""Run records to a self-contained HTML page and Markdown; never imports torch."""

from rotvq.report.layouts import write_report
from rotvq.run_record import Epoch, Evaluation, RunRecord, load_run, load_runs

__all__ = ["Epoch", "Evaluation", "RunRecord", "load_run", "load_runs", "write_report"]
