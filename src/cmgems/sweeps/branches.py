"""`cmgems branch`: runs that go on from checkpoints of others, with the learning rate falling to 0.

A branch is a run like any other. It begins in a folder with the parent's checkpoint, changed where
it has to be, and its log up to there; from then on it is resumed. So its windows are those that
the parent would have drawn next, and what holds of a resumed run holds of a branch.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from cmgems.config.options import get_value, iter_keys
from cmgems.config.schema import Curriculum, Experiment, Masking
from cmgems.errors import UserError
from cmgems.runs.experiment import diff, load
from cmgems.runs.folder import RESUMABLE_KEYS, RunFolder
from cmgems.runs.identity import (
    DIFFICULTY,
    GENOME,
    IDENTITY_KEY,
    check_identity,
    experiment_identity,
)
from cmgems.runs.step_rules import steps_to_keep
from cmgems.sweeps.plan import PlannedRun
from cmgems.utils.files import atomic_write

# What a branch may have other than its parent: how it masks, how it is validated, how its learning
# rate goes on. Windows, model, batches and the state of the optimizer are the parent's.
OWN_KEYS = (
    *RESUMABLE_KEYS,
    "branch.",
    "curriculum.",
    "masking.",
    "pmi.",
    "probe.",
    "validation.",
    "optim.schedule",
    "optim.decay_steps",
    "optim.learning_rate",
    "optim.muon_learning_rate",
    "optim.max_grad_norm",
    "train.max_steps",
    "train.keep_checkpoints_at",
)

RESERVED_KEYS = (
    "name=",
    "run.",
    "branch.",
    "train.max_steps=",
    "optim.schedule=",
    "optim.decay_steps=",
)
HELD_SCHEDULES = ("constant", "plateau")  # the same at a step, however long the run is


class BranchPoint(NamedTuple):
    """Where and how branches leave their parents."""

    step: int
    decay_steps: int  # to the end of the branch; 0: a fifth of its steps, the parent's included
    masks: str  # the only strategy from there on, at the default budget; empty: as the parent


def plan_branch(
    parent: Path, point: BranchPoint, folder: Path, overrides: Sequence[str] = ()
) -> PlannedRun:
    """The experiment of a branch, checked, with its folder `folder`/PARENT-stepN.

    Raises
    ------
    UserError
        If the parent has no checkpoint of that step, or the branch could not go on from it.
    """
    from cmgems.runs.io import read_checkpoint  # torch

    began = _parent_experiment(parent)
    path = find_checkpoint(parent, point.step)
    content, sha256 = read_checkpoint(path, map_location="meta")
    check_identity(path, content, experiment_identity(began))
    reserved = [text for text in overrides if text.startswith(RESERVED_KEYS)]
    if reserved:
        raise UserError(f"`{reserved[0]}`: a branch sets this key itself")
    name = f"{parent.resolve().name}-step{point.step}"
    every = began.validation.every_n_steps
    decay = point.decay_steps or max(round(point.step / 4 / every), 1) * every
    values: dict[str, Any] = {
        "name": name,
        "run.dir": str(folder / name),
        "run.resume": False,
        "branch.run": str(parent),
        "branch.step": point.step,
        "branch.sha256": sha256,
        "train.max_steps": point.step + decay,
        "train.keep_checkpoints_at": [],
        "optim.schedule": "wsd",
        "optim.decay_steps": decay,
        **(_constant_masks(point.masks) if point.masks else {}),
    }
    given = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    branch = load(parent / "config.yaml", [*given, *overrides])
    _check_kept(parent, began, branch)
    return PlannedRun(name, folder / name, branch)


def _parent_experiment(parent: Path) -> Experiment:
    if not (parent / "config.yaml").exists():
        raise UserError(f"{parent}: holds no run (no config.yaml), wanted one to branch from")
    return RunFolder(parent).experiment()


def kept_steps(parent: Path) -> list[int]:
    """The steps after which a run keeps checkpoints.

    Raises
    ------
    UserError
        If it keeps none.
    """
    steps = steps_to_keep(_parent_experiment(parent))
    if not steps:
        raise UserError(f"step: {parent} keeps no checkpoints (train.keep_checkpoints_at)")
    return steps


def _constant_masks(strategy: str) -> dict[str, Any]:
    """Override all keys of curriculum and masking: the same masks whatever the parent had."""
    defaults = {"curriculum": Curriculum(), "masking": Masking()}
    values = {
        f"{section}.{key}": get_value(default, key)
        for section, default in defaults.items()
        for key, _ in iter_keys(type(default))
    }
    return values | {"curriculum.strategies": [strategy]}


def _check_kept(parent: Path, began: Experiment, branch: Experiment) -> None:
    changed = [key for key in diff(began, branch) if not key.startswith(OWN_KEYS)]
    problems = [
        f"{key}: a branch keeps what the run in {parent} has, {get_value(began, key)!r}; found "
        f"{get_value(branch, key)!r}"
        for key in changed
    ]
    curriculum = branch.curriculum
    ramps = [getattr(curriculum.ramps, part.name).schedule for part in fields(curriculum.ramps)]
    follows = [name for name in (curriculum.schedule, *ramps) if name not in HELD_SCHEDULES]
    if follows:
        problems.append(
            f"curriculum.schedule: found {follows[0]}, which follows train.max_steps and would "
            "jump in a branch; wanted masks=STRATEGY for the rest of the run"
        )
    if problems:
        raise UserError("\n".join(problems))


def find_checkpoint(parent: Path, step: int) -> Path:
    """The checkpoint of a run that was saved after this step.

    Raises
    ------
    UserError
        If there is none.
    """
    from cmgems.runs.io import read_checkpoint  # torch

    steps = {}
    for path in sorted((parent / "checkpoints").glob("*.ckpt")):
        kept = path.stem.removeprefix("step")
        if kept.isdigit():
            steps[int(kept)] = path
        else:
            found = read_checkpoint(path, map_location="meta").content["global_step"]
            steps.setdefault(found, path)
    if step not in steps:
        listed = ", ".join(map(str, sorted(steps))) or "none"
        raise UserError(
            f"step: found {step}, but {parent} has checkpoints of steps {listed} "
            "(train.keep_checkpoints_at keeps others)"
        )
    return steps[step]


def begin_branch(run: PlannedRun) -> None:
    """Make the folder of a branch, from which it is resumed; nothing, if it has begun."""
    from cmgems.runs.io import (  # torch
        HEADER,
        SafeCheckpoints,
        read_checkpoint,
        read_scalar_lines,
    )

    folder, branch = RunFolder(run.folder), run.experiment.branch
    if folder.last_checkpoint:
        return
    parent = Path(branch.run)
    checkpoint = read_checkpoint(find_checkpoint(parent, branch.step))
    if checkpoint.sha256 != branch.sha256:
        raise UserError(f"branch.sha256: the checkpoint of step {branch.step} in {parent} changed")
    began = RunFolder(parent).experiment()
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    folder.write_config(run.experiment)
    with atomic_write(folder.parent) as handle:
        handle.write((parent / "config.yaml").read_text())
    lines = read_scalar_lines(parent / "metrics.csv", branch.step)
    of_its_end = (",final_", ",judge_")
    kept = [line for line in lines if not any(name in line for name in of_its_end)]
    with atomic_write(run.folder / "metrics.csv") as handle:
        handle.writelines([f"{HEADER}\n", *kept])
    # The last: a folder without it is begun again.
    content = branched_state(checkpoint.content, began, run.experiment)
    identity = branch_identity(checkpoint.content, began, run.experiment)
    SafeCheckpoints(identity).save_checkpoint(content, folder.checkpoints / "last.ckpt")


def branched_state(
    content: dict[str, Any], began: Experiment, branch: Experiment
) -> dict[str, Any]:
    """What a branch resumes from: the parent's checkpoint, changed where the branch differs.

    Parameters
    ----------
    content : of the parent's checkpoint; it is changed
    began, branch : the experiments of both
    """
    from cmgems.callbacks import CurriculumCallback, RunCheckpoints, TrainingLog  # torch

    callbacks = content["callbacks"]
    # Validation under the parent's masks says nothing of which of the branch's is the best.
    callbacks[RunCheckpoints.__qualname__] = {"best_loss": float("inf"), "best_step": 0}
    if began.curriculum != branch.curriculum:
        callbacks[CurriculumCallback.__qualname__] = {
            "schedule": branch.curriculum.schedule,
            "losses": [],
            "switches": [],
        }
        totals = [[0, 0] for _ in branch.curriculum.strategies]
        callbacks[TrainingLog.__qualname__]["totals"] = totals
        weights = content["state_dict"]  # next to them, running losses that masks have followed
        content["state_dict"] = {n: w for n, w in weights.items() if n.startswith("model.")}
    # The parent may have ended here, which is no end now.
    content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
    _set_rates(content, branch)
    return content


def branch_identity(
    content: dict[str, Any], began: Experiment, branch: Experiment
) -> dict[str, Any]:
    """Whose a branch's first checkpoint is: the branch's, on the genome of its parent. Its ranks
    are the parent's unless it defines others, which the branch computes when it is resumed."""
    inputs = {GENOME} if began.pmi != branch.pmi else {GENOME, DIFFICULTY}
    kept = {key: x for key, x in content.get(IDENTITY_KEY, {}).items() if key in inputs}
    return experiment_identity(branch) | kept


def _set_rates(content: dict[str, Any], branch: Experiment) -> None:
    """The rates with which the decay begins: the peaks, whatever the parent's schedule had come to
    (and its experiment: a schedule takes its peaks from what was saved)."""
    optim = branch.optim
    (state,) = content["optimizer_states"]
    parts = state.get("optimizers", [state])
    peaks = [optim.learning_rate]
    if optim.name == "muon":
        peaks = [optim.muon_learning_rate, optim.learning_rate]
    rates = []
    for part, peak in zip(parts, peaks, strict=True):
        for group in part["param_groups"]:
            group["lr"] = group["initial_lr"] = peak
            rates.append(peak)
    (schedule,) = content["lr_schedulers"]
    schedule["base_lrs"] = schedule["_last_lr"] = rates
