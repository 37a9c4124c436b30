"""Lightning callbacks; imported as `cmgems.callbacks`.

To add one: a file here, its line in `build_callbacks` in `cmgems.pretraining`, its test in
`tests/callbacks/`. (A custom one for a single run: `pretrain(experiment, callbacks=[...])`.)
What callbacks save is stored in checkpoints under the names of their classes: whoever renames one,
or what it saves, raises `CHECKPOINT_FORMAT` in `cmgems.runs.io`.
"""

from cmgems.callbacks.checkpoints import RunCheckpoints, StopOnSignal
from cmgems.callbacks.comparison_log import ComparisonLog
from cmgems.callbacks.curriculum import CurriculumCallback
from cmgems.callbacks.final_evaluation import FinalEvaluation
from cmgems.callbacks.mask_log import MaskLog
from cmgems.callbacks.online_probe import OnlineProbe
from cmgems.callbacks.pmi_plots import PmiPlots
from cmgems.callbacks.profile import Profile
from cmgems.callbacks.schedule_plot import SchedulePlot
from cmgems.callbacks.step_progress import StepProgress
from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog

__all__ = [
    "ComparisonLog",
    "CurriculumCallback",
    "FinalEvaluation",
    "MaskLog",
    "OnlineProbe",
    "PmiPlots",
    "Profile",
    "RunCheckpoints",
    "SchedulePlot",
    "StepProgress",
    "StopOnSignal",
    "Throughput",
    "TrainingLog",
]
