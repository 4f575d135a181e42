"""What can be run as a whole: the paper's studies, and ours."""

from __future__ import annotations

from rotvq.experiments.beyond import presets, studies
from rotvq.experiments.presets import PRESETS
from rotvq.experiments.studies import STUDIES
from rotvq.experiments.study import Campaign

REPRODUCTION = Campaign("reproduce", STUDIES, PRESETS)
BEYOND = Campaign("beyond", studies.STUDIES, presets.PRESETS)
