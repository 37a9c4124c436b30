"""Rules between keys that count steps: of the decay of the learning rate, of checkpoints."""

from collections.abc import Iterator

from cmgems.config.schema import Experiment


def decay_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that the schedule of the learning rate breaks."""
    optim, max_steps = experiment.optim, experiment.train.max_steps
    if optim.schedule != "wsd" and optim.decay_steps:
        yield (
            "optim.decay_steps",
            f"optim.decay_steps: belongs to optim.schedule wsd, found {optim.schedule}",
        )
    elif optim.decay_steps > max_steps - optim.warmup_steps >= 0:
        yield (
            "optim.decay_steps",
            f"optim.decay_steps: found {optim.decay_steps}, wanted at most train.max_steps - "
            f"optim.warmup_steps = {max_steps - optim.warmup_steps}",
        )


def steps_to_keep(experiment: Experiment) -> list[int]:
    """The steps after which a checkpoint is kept."""
    train = experiment.train
    return [round(fraction * train.max_steps) for fraction in train.keep_checkpoints_at]


def kept_checkpoint_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """A checkpoint that is kept follows a validation."""
    kept, every = experiment.train.keep_checkpoints_at, experiment.validation.every_n_steps
    is_fraction = all(0 < fraction <= 1 for fraction in kept)
    if not is_fraction or any(step % every for step in steps_to_keep(experiment)):
        yield (
            "train.keep_checkpoints_at",
            f"train.keep_checkpoints_at: found {list(kept)}, wanted fractions of train.max_steps = "
            f"{experiment.train.max_steps} that are multiples of validation.every_n_steps = "
            f"{every}: a checkpoint follows a validation",
        )
