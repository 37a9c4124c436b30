"""Rules between keys: what no single key's range can say."""

from collections.abc import Iterator

from cmgems.config import Experiment

STRATEGY_COUNT = {"constant": 1, "linear": 2, "plateau": 2}


def broken_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that an experiment breaks."""
    yield from _window_rules(experiment)
    yield from _model_rules(experiment)
    yield from _batch_rules(experiment)
    yield from _validation_rules(experiment)
    yield from _curriculum_rules(experiment)


def _window_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    data, positions = experiment.data, experiment.model.positions
    if data.shortest < data.k:
        yield (
            "data.shortest",
            f"data.shortest: found {data.shortest}, wanted at least data.k = {data.k}",
        )
    if data.window < data.shortest:
        yield (
            "data.window",
            f"data.window: found {data.window}, wanted at least data.shortest = {data.shortest}",
        )
    tokens = data.window - data.k + 3
    if tokens > positions:
        yield (
            "data.window",
            f"data.window: {data.window} bases are {tokens} tokens with [CLS] and [SEP], wanted at "
            f"most model.positions = {positions}",
        )


def _model_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    from cmgems.presets import sizes

    shape = sizes(experiment.model)
    if shape["width"] % (2 * shape["heads"]):
        yield (
            "model.width",
            f"model.width: found {shape['width']}, wanted a multiple of 2 x {shape['heads']} heads",
        )
    if experiment.model.init == "fast_start" and shape["width"] % 4:
        yield (
            "model.width",
            f"model.width: found {shape['width']}, fast_start wants a multiple of 4",
        )


def _batch_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    train, optim = experiment.train, experiment.optim
    at_once = train.micro_batch * train.devices * train.nodes
    if train.batch % at_once:
        yield (
            "train.batch",
            f"train.batch: found {train.batch}, wanted a multiple of train.micro_batch x devices x "
            f"nodes = {at_once}",
        )
    if optim.warmup_steps >= train.max_steps:
        yield (
            "optim.warmup_steps",
            f"optim.warmup_steps: found {optim.warmup_steps}, wanted fewer than train.max_steps = "
            f"{train.max_steps}",
        )


def _validation_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    every, steps = experiment.validation.every, experiment.train.max_steps
    if steps % every:
        yield (
            "validation.every",
            f"validation.every: found {every}, wanted a divisor of train.max_steps = {steps}, so "
            f"that the last step is validated and saved",
        )


def _curriculum_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    from cmgems.masking import STRATEGIES

    curriculum = experiment.curriculum
    for name in curriculum.strategies:
        if name not in STRATEGIES:
            yield (
                "curriculum.strategies",
                f"curriculum.strategies: found {name!r}, wanted some of {', '.join(STRATEGIES)}",
            )
    wanted = STRATEGY_COUNT[curriculum.schedule]
    if len(curriculum.strategies) != wanted:
        yield (
            "curriculum.strategies",
            f"curriculum.strategies: found {len(curriculum.strategies)} names, schedule "
            f"{curriculum.schedule} wants {wanted}",
        )
