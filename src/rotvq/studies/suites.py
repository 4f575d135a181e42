"""What can be run as a whole: the paper's studies, and ours."""

from __future__ import annotations

from rotvq.studies.ablations import presets, studies
from rotvq.studies.paper.presets import PRESETS
from rotvq.studies.paper.studies import STUDIES
from rotvq.studies.study import Suite

PAPER = Suite("reproduce", STUDIES, PRESETS)
ABLATIONS = Suite("ablate", studies.STUDIES, presets.PRESETS)
