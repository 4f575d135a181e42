"""What can be run as a whole: the paper's studies."""

from __future__ import annotations

from rotvq.experiments.presets import PRESETS
from rotvq.experiments.studies import STUDIES
from rotvq.experiments.study import Campaign

REPRODUCTION = Campaign("reproduce", STUDIES, PRESETS)
