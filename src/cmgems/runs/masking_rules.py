"""Rules between the keys that say what is masked, and when."""

from collections.abc import Iterator
from dataclasses import fields

from cmgems.config.schema import Experiment, Masking
from cmgems.errors import UserError


def masking_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that strategies, curriculum, budget and ramps break."""
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
    from cmgems.masking.strategies import wants_kmers  # torch, as in `masking_rules`

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
