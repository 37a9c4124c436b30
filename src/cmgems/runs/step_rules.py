"""Rules between keys that count steps: of the schedule of the learning rate, of checkpoints."""

from collections.abc import Iterator

from cmgems.config.schema import Experiment


def learning_rate_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that the schedule of the learning rate breaks."""
    optim, max_steps = experiment.optim, experiment.train.max_steps
    given, warmup_steps = optim.warmup_steps, optim.warmup(max_steps)
    if given > 1 and given != warmup_steps:
        yield (
            "optim.warmup_steps",
            f"optim.warmup_steps: found {given}, wanted a whole number of steps, or a share of "
            "train.max_steps below 1",
        )
    elif warmup_steps >= max_steps:
        yield (
            "optim.warmup_steps",
            f"optim.warmup_steps: found {given}, wanted fewer than train.max_steps = {max_steps}, "
            "or a share of them such as 0.1",
        )
    if optim.schedule != "wsd" and optim.decay_steps:
        yield (
            "optim.decay_steps",
            f"optim.decay_steps: belongs to optim.schedule wsd, found {optim.schedule}",
        )
    elif optim.decay_steps > max_steps - warmup_steps >= 0:
        yield (
            "optim.decay_steps",
            f"optim.decay_steps: found {optim.decay_steps}, wanted at most train.max_steps - "
            f"the warm-up's steps = {max_steps - warmup_steps}",
        )


def steps_to_keep(experiment: Experiment) -> list[int]:
    """The steps after which a checkpoint is kept."""
    train = experiment.train
    return [round(fraction * train.max_steps) for fraction in train.keep_checkpoints_at]


def kept_checkpoint_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """A checkpoint that is kept follows a validation."""
    kept, every = experiment.train.keep_checkpoints_at, experiment.validation.every_n_steps
    is_fraction = all(0 < fraction <= 1 for fraction in kept)
    within = set(steps_to_keep(experiment)) - {experiment.train.max_steps}
    if not is_fraction or any(step % every for step in within):
        yield (
            "train.keep_checkpoints_at",
            f"train.keep_checkpoints_at: found {list(kept)}, wanted fractions of train.max_steps = "
            f"{experiment.train.max_steps} that are 1 or multiples of validation.every_n_steps = "
            f"{every}: a checkpoint follows a validation",
        )
