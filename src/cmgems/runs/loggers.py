"""The loggers of a run: `metrics.csv`, which others read, and those that `train.loggers` names."""

import json
import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from cmgems.config.options import get_value
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs.io import ScalarFile
from cmgems.runs.tensorboard import hyper_parameter_keys, plain
from cmgems.utils.files import atomic_write, read_json

TRACKERS = ("wandb", "mlflow")  # packages that are installed with the extra `tracking`
IDS = "trackers.json"  # of the run folder: the id that each tracker has given the run


def check_loggers(experiment: Experiment) -> None:
    """Refuse loggers whose package is missing, before anything is written.

    Raises
    ------
    UserError
        If one is.
    """
    for name in TRACKERS:
        if name in experiment.train.loggers and find_spec(name) is None:
            raise UserError(
                f"train.loggers: {name} is not installed; pip install 'cmgems[tracking]'"
            )


def build_loggers(experiment: Experiment, folder: Path, step: int) -> list[Logger]:
    """The loggers of a run, which continue what they have of it.

    Parameters
    ----------
    experiment : Experiment
    folder : of the run
    step : that it resumes after; -1 for a run that begins

    Raises
    ------
    UserError
        If a tracker cannot begin: no account, no server.
    """
    loggers: list[Logger] = [ScalarFile(folder / "metrics.csv", resume_step=step)]
    names = experiment.train.loggers
    if "tensorboard" in names:
        loggers.insert(0, TensorBoardLogger(folder, name="", version="", purge_step=step + 1))
    if "csv" in names:
        # Lightning's rewrites its file, so each session has one.
        loggers.append(CSVLogger(folder / "csv", name="", version=f"after_step{max(step, 0)}"))
    is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    if is_first_rank and set(names).intersection(TRACKERS):
        loggers += _build_trackers(experiment, folder, step)
    return loggers


def _build_trackers(experiment: Experiment, folder: Path, step: int) -> list[Logger]:
    ids = {}
    if step >= 0 and (folder / IDS).exists():
        ids = read_json(folder / IDS, "the ids of the run in its trackers")
    loggers = []
    makers: dict[str, Callable[[Experiment, Path, str | None], Logger]] = {
        "wandb": _wandb,
        "mlflow": _mlflow,
    }
    for name in TRACKERS:
        if name not in experiment.train.loggers:
            continue
        try:
            logger = makers[name](experiment, folder, ids.get(name))
            _ = logger.experiment  # type: ignore[attr-defined]  # here it asks for an account
        except Exception as error:  # of classes that differ between the versions of a package
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"train.loggers: {name} cannot begin: {first}; wanted its settings in the "
                f"environment (docs/tracking.md)"
            ) from error
        if name not in ids:
            values = {key: plain(get_value(experiment, key)) for key in hyper_parameter_keys()}
            logger.log_hyperparams(values)
            ids[name] = logger.version
        loggers.append(logger)
    with atomic_write(folder / IDS) as handle:
        json.dump(ids, handle)
    return loggers


def _wandb(experiment: Experiment, folder: Path, run_id: str | None) -> Logger:
    from lightning.pytorch.loggers import WandbLogger  # needs the package when it is made

    return WandbLogger(
        save_dir=folder,
        project=os.environ.get("WANDB_PROJECT", "cmgems"),
        name=experiment.name,
        version=run_id or secrets.token_hex(4),  # an id that it has is continued
    )


def _mlflow(experiment: Experiment, folder: Path, run_id: str | None) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger  # needs the package when it is made

    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        # A folder needs no database; MLflow 3 wants to hear that this is meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "cmgems"),
        run_name=experiment.name,
        tracking_uri=server or f"file:{folder.absolute()}/mlruns",
        run_id=run_id,
    )
