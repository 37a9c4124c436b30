"""An experiment from its file, and the rules between keys, which no key's own range can express."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cmgems.config.encoders import Model, encoder_keys, fast_start_problem, max_positions
from cmgems.config.loading import load_as
from cmgems.config.options import get_value, iter_keys
from cmgems.config.schema import Experiment
from cmgems.config.shipped import experiment_file
from cmgems.runs.genome_rules import genome_rules
from cmgems.runs.masking_rules import masking_rules
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
    data = experiment.data
    if data.genomes:  # they stand in place of it
        data = replace(data, genome="")
    return replace(experiment, name=name, run=run, data=data, model=model)


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
    yield from masking_rules(experiment)


def _window_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    # torch takes seconds to import, for which somebody who has mistyped a key need not wait
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
