"""An experiment from its file, and the rules between keys, which no key's own range can express."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from cmgems.config.encoders import Model, encoder_keys, fast_start_problem, max_positions
from cmgems.config.loading import load_as
from cmgems.config.options import get_value, iter_keys
from cmgems.config.schema import Experiment, Masking
from cmgems.config.shipped import experiment_file
from cmgems.errors import UserError
from cmgems.runs.genome_rules import genome_rules
from cmgems.runs.step_rules import kept_checkpoint_rules, learning_rate_rules


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read, merge and check an experiment.

    Raises
    ------
    UserError
        With one line per problem.
    """
    path = experiment_file(path, "pretrain")
    experiment = load_as(Experiment, path, overrides, broken_rules)
    return _with_defaults(experiment, experiment.name or path.stem)


def _with_defaults(experiment: Experiment, name: str) -> Experiment:
    run = replace(experiment.run, dir=experiment.run.dir or f"runs/{name}")
    # The copy in the run folder says what was run, whatever a later version's preset is.
    model = replace(experiment.model, **encoder_keys(experiment.model))
    return replace(experiment, name=name, run=run, model=model)


def diff(a: Experiment, b: Experiment) -> list[str]:
    """Dotted keys at which two experiments differ, without those of the section `run`."""
    return [
        name
        for name, _ in iter_keys(Experiment)
        if not name.startswith("run.") and get_value(a, name) != get_value(b, name)
    ]


def broken_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that an experiment breaks."""
    yield from genome_rules(experiment)
    yield from _window_rules(experiment)
    yield from _table_rules(experiment)
    yield from _model_rules(experiment)
    yield from _batch_rules(experiment)
    yield from learning_rate_rules(experiment)
    yield from kept_checkpoint_rules(experiment)
    yield from _curriculum_rules(experiment)


def _window_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    # torch, as in `_curriculum_rules`
    from cmgems.tokenization import TOKENIZATIONS

    data, positions = experiment.data, max_positions(experiment.model)
    if data.tokenization == "bpe":  # what a window has depends on its content: it is cut to fit
        yield from _byte_pair_rules(experiment)
        return
    if data.tokenizer:
        yield (
            "data.tokenizer",
            f"data.tokenizer: found {data.tokenizer}, which belongs to data.tokenization bpe, and "
            f"data.tokenization {data.tokenization}",
        )
    tokenization = TOKENIZATIONS[data.tokenization](data.k)
    if data.min_window_length < tokenization.min_bases:
        yield (
            "data.min_window_length",
            f"data.min_window_length: found {data.min_window_length}, wanted at least data.k = "
            f"{tokenization.min_bases}",
        )
    if data.window_length < data.min_window_length:
        yield (
            "data.window_length",
            f"data.window_length: found {data.window_length}, wanted at least "
            f"data.min_window_length = {data.min_window_length}",
        )
    tokens = tokenization.max_tokens(data.window_length)
    if tokens > positions:
        yield (
            "data.window_length",
            f"data.window_length: {data.window_length} bases are {tokens} tokens with [CLS] and "
            f"[SEP], wanted at most model.max_position_embeddings = {positions}",
        )


def _table_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    pmi = experiment.pmi
    if not pmi.skip_repeats:
        return
    if pmi.table:
        yield (
            "pmi.skip_repeats",
            f"pmi.skip_repeats: found true, but the table of pmi.table {pmi.table} is counted "
            "already; wanted one of them",
        )
    if experiment.data.tokenization == "bpe":
        yield (
            "pmi.skip_repeats",
            "pmi.skip_repeats: found true, which is for k-mers; wanted false with "
            "data.tokenization bpe, whose n-grams are counted everywhere",
        )


def _byte_pair_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    data, pmi = experiment.data, experiment.pmi
    if data.window_length < data.min_window_length:
        yield (
            "data.window_length",
            f"data.window_length: found {data.window_length}, wanted at least "
            f"data.min_window_length = {data.min_window_length}",
        )
    if pmi.table:
        yield (
            "pmi.table",
            f"pmi.table: found {pmi.table}, which ranks k-mers; the n-grams of data.tokenization "
            f"bpe are counted on the genome, wanted no table",
        )
    if pmi.definition != "exact":
        yield (
            "pmi.definition",
            f"pmi.definition: found {pmi.definition}, which is one of k-mers; wanted exact with "
            f"data.tokenization bpe",
        )


def _model_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    shape = encoder_keys(experiment.model)
    if shape["hidden_size"] % (2 * shape["num_heads"]):
        yield (
            "model.hidden_size",
            f"model.hidden_size: found {shape['hidden_size']}, wanted a multiple of 2 x "
            f"{shape['num_heads']} heads",
        )
    if experiment.model.init == "fast_start" and experiment.data.tokenization != "kmers":
        yield (
            "model.init",
            f"model.init: found fast_start, which is made for overlapping k-mers, and "
            f"data.tokenization {experiment.data.tokenization}; wanted model.init bert",
        )
    if experiment.model.init == "fast_start" and shape["hidden_size"] % 4:
        yield (
            "model.hidden_size",
            f"model.hidden_size: found {shape['hidden_size']}, fast_start wants a multiple of 4",
        )
    yield from _block_rules(experiment.model)


def _block_rules(model: Model) -> Iterator[tuple[str, str]]:
    keys = encoder_keys(model)
    if keys["norm"] == "post" and not keys["embedding_norm"]:
        yield (
            "model.embedding_norm",
            "model.embedding_norm: found false, wanted true with model.norm post: its layers take "
            "normalized states",
        )
    for name, else_wanted in (("conv_stem", ", or 0"), ("conv_kernel", "")):
        if keys[name] and keys[name] % 2 == 0:
            yield (
                f"model.{name}",
                f"model.{name}: found {keys[name]}, wanted an odd number of tokens{else_wanted}",
            )
    if keys["mlp_biases"] != "all" and not keys["biases"]:
        yield (
            "model.mlp_biases",
            f"model.mlp_biases: found {keys['mlp_biases']}, wanted all with model.biases false, "
            "which leaves out those of the feed-forward too",
        )
    if keys["local_attention"] % 2:
        yield (
            "model.local_attention",
            f"model.local_attention: found {keys['local_attention']}, wanted an even number of "
            "tokens, or 0",
        )
    problem = fast_start_problem(model) if model.init == "fast_start" else None
    if problem:
        yield "model.init", problem


def _batch_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    train, optim = experiment.train, experiment.optim
    windows = train.micro_batch_size * train.devices * train.nodes  # of one forward pass
    if train.global_batch_size % windows:
        yield (
            "train.global_batch_size",
            f"train.global_batch_size: found {train.global_batch_size}, wanted a multiple of "
            f"train.micro_batch_size x devices x nodes = {windows}",
        )
    if optim.name == "muon" and train.strategy == "fsdp":
        yield (
            "optim.name",
            "optim.name: found muon with train.strategy fsdp, wanted adamw: Muon updates whole "
            "matrices, of which a process holds a part",
        )


def _curriculum_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    # torch takes seconds to import, for which somebody who has mistyped a key need not wait
    from cmgems.masking.registry import strategy

    curriculum = experiment.curriculum
    for name in curriculum.strategies:
        try:
            strategy(name)
        except UserError as error:
            yield "curriculum.strategies", f"curriculum.strategies: {error}"
    found, is_constant = len(curriculum.strategies), curriculum.schedule == "constant"
    if (found != 1) if is_constant else (found < 2):
        wanted = "one" if is_constant else "two or more"
        yield (
            "curriculum.strategies",
            f"curriculum.strategies: found {found} names, schedule {curriculum.schedule} wants "
            f"{wanted}",
        )
    if len(set(curriculum.strategies)) < found:
        yield "curriculum.strategies", "curriculum.strategies: a name is listed twice"
    yield from _budget_rules(experiment)
    yield from _reach_rules(experiment)
    yield from _ngram_rules(experiment)
    yield from _milestone_rules(experiment)
    yield from _ramp_rules(experiment)


def _budget_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    masking, strategies = experiment.masking, experiment.curriculum.strategies
    if masking.budget != "hidden_bases":
        return
    if masking.center_rate == "paper":
        yield (
            "masking.budget",
            "masking.budget: found hidden_bases, but masking.center_rate is paper: the paper's "
            "rates are fixed",
        )
    if experiment.data.tokenization == "kmers" and "uniform" in strategies:
        yield (
            "masking.budget",
            "masking.budget: found hidden_bases with strategy uniform: single overlapping k-mers "
            "hide no base; wanted tokens, or another strategy",
        )


GENEMASK_LIMIT = 0.5  # of tokens, where its windows need not cover their centres


def _reach_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """`genemask` masks the best token near a centre. Where tokens do not overlap that is a single
    one, the same for several centres, so that no rate of centres reaches all tokens."""
    adjacent = experiment.data.tokenization not in ("kmers", "bases")
    if not adjacent or "genemask" not in experiment.curriculum.strategies:
        return
    for name, ratio in (
        ("masking.mask_ratio", experiment.masking.mask_ratio),
        ("curriculum.ramps.mask_ratio.end", experiment.curriculum.ramps.mask_ratio.end),
    ):
        if ratio > GENEMASK_LIMIT:
            yield (
                name,
                f"{name}: found {ratio}, wanted at most {GENEMASK_LIMIT} with strategy genemask "
                f"and data.tokenization {experiment.data.tokenization}",
            )


def _ngram_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """What a Markov model says is known of k-mers alone."""
    from cmgems.masking.strategies import wants_kmers  # torch, as in `_curriculum_rules`

    if experiment.data.tokenization != "bpe":
        return
    for name in experiment.curriculum.strategies:
        if wants_kmers(name):
            yield (
                "curriculum.strategies",
                f"curriculum.strategies: found {name}, which ranks k-mers by a Markov model, and "
                "data.tokenization bpe, whose n-grams are ranked by PMI or loss alone",
            )


def _milestone_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    curriculum = experiment.curriculum
    milestones, stages = list(curriculum.milestones), len(curriculum.strategies)
    if curriculum.schedule == "steps":
        is_ascending = milestones == sorted(set(milestones)) and all(0 < x < 1 for x in milestones)
        if len(milestones) != stages - 1 or not is_ascending:
            yield (
                "curriculum.milestones",
                f"curriculum.milestones: found {milestones}, wanted {stages - 1} ascending numbers "
                "between 0 and 1, one for each strategy but the first",
            )
    elif milestones:
        yield (
            "curriculum.milestones",
            f"curriculum.milestones: belongs to schedule steps, found {curriculum.schedule}",
        )
    if curriculum.schedule == "plateau" and curriculum.order == "shuffle":
        yield (
            "curriculum.order",
            "curriculum.order: a plateau cannot be shuffled before its switch is known; wanted "
            "schedule steps with curriculum.milestones from the run to compare with",
        )


def _ramp_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    for name in ("mask_ratio", "span_width", "temperature"):
        ramp = getattr(experiment.curriculum.ramps, name)
        dotted = f"curriculum.ramps.{name}"
        limits = next(part for part in fields(Masking) if part.name == name).metadata
        if ramp.schedule == "constant" and ramp.end:
            yield f"{dotted}.end", f"{dotted}.end: found {ramp.end}, but schedule is constant"
        elif ramp.schedule != "constant" and not limits["low"] <= ramp.end <= limits["high"]:
            yield (
                f"{dotted}.end",
                f"{dotted}.end: found {ramp.end}, wanted {limits['low']} to {limits['high']}",
            )
        if ramp.schedule != "constant" and experiment.masking.center_rate == "paper":
            yield (
                f"{dotted}.schedule",
                f"{dotted}.schedule: found {ramp.schedule}, but masking.center_rate is paper: the "
                "paper's rates are fixed",
            )
