"""The summary of a run that a person reads."""

import textwrap
from pathlib import Path
from typing import Any

from cmgems.config.schema import Experiment
from cmgems.runs.hidden_bases import hidden_bases_table, hidden_bases_verdict, judges_table

MASK_NAMES = {
    "random": "random masks",
    "random_wide": "wide random masks",
    "own_masks": "the run's own masks",
}


def render_summary(experiment: Experiment, results: dict[str, Any], folder: Path) -> str:
    """What was learned, under which masks, at what speed, and where it is stored."""
    lines = ["", f"{experiment.name}: {experiment.train.max_steps:,} steps", ""]
    lines.append(f"  {'validation perplexity':<30}{'untrained':>12}{'trained':>12}")
    for mask, title in MASK_NAMES.items():
        initial = results["initial"].get(mask, {}).get("perplexity")
        final = results["final"].get(mask, {}).get("perplexity")
        lines.append(f"    {title:<28}{_number(initial)}{_number(final)}")
    lines += ["", *_hidden_bases(results)]
    fractions = _masked_fractions(experiment, results["masked_fraction"])
    lines.append(f"  masked fraction       {fractions}")
    lines.append(f"  curriculum            {_curriculum(experiment, results)}")
    lines.append(
        f"  speed                 {results['tokens_per_second']:,.0f} tokens per second, "
        f"{results['tokens'] / 1e6:.2f} million tokens in {results['training_seconds']:.0f} s"
    )
    lines.append(
        f"  best checkpoint       {folder}/checkpoints/best.ckpt (step {results['best_step']:,})"
    )
    lines.append(f"  TensorBoard logs      {folder}")
    lines += ["", "next:"]
    lines.append(
        f"  make tensorboard                                 # or: tensorboard --logdir {folder}"
    )
    lines.append(f"  cmgems evaluate quickstart models={folder}")
    lines.append(
        f"  cmgems pretrain {folder}/config.yaml name=baseline run.dir=runs/baseline \\\n"
        "      curriculum.schedule=constant curriculum.strategies=[random_wide] "
        "curriculum.milestones=[]"
    )
    lines.append("  cmgems pretrain evening data.genome=YOUR.fa")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, ',.1f'):>12}"


def _masked_fractions(experiment: Experiment, fractions: dict[str, float]) -> str:
    named = ", ".join(f"{name} {fraction:.4f}" for name, fraction in fractions.items())
    if experiment.masking.center_rate == "paper":
        return f"{named} (at the paper's centre rates)"
    if experiment.masking.budget == "hidden_bases":
        return f"{named} (to hide {experiment.masking.mask_ratio:g} of the bases)"
    return f"{named} (wanted {experiment.masking.mask_ratio:g})"


def _hidden_bases(results: dict[str, Any]) -> list[str]:
    """How well the model predicts hidden bases beside models that count: perplexity hides it."""
    hidden = results["hidden_bases"]
    if not hidden:
        return []
    final = results["final"]
    tokens, bases = final["random"]["accuracy"], final["random_wide"]["hidden_base_accuracy"]
    title = (
        f"  hidden bases          bits per base, by copies in the training DNA; ± half of the 95 % "
        f"interval over {hidden['windows']:,} windows"
    )
    verdict = textwrap.wrap(
        " ".join(hidden_bases_verdict(hidden)), 100, initial_indent="    ", subsequent_indent="    "
    )
    return [
        title,
        hidden_bases_table(hidden, indent="    "),
        *verdict,
        *_judges(results.get("judges")),
        f"  accuracy              {tokens:.1%} of masked tokens (random masks), {bases:.1%} of "
        f"hidden bases (wide masks)",
    ]


def _judges(judges: dict[str, Any] | None) -> list[str]:
    """Under further masks; runs of earlier versions were not judged so."""
    if not judges:
        return []
    title = "  judges                bits per hidden base under other masks, and recalibrated"
    return [title, judges_table(judges, indent="    ")]


def _curriculum(experiment: Experiment, results: dict[str, Any]) -> str:
    """Which strategy masked when."""
    curriculum, steps = experiment.curriculum, experiment.train.max_steps
    names, order = curriculum.strategies, curriculum.order
    if curriculum.schedule == "constant":
        return f"{names[0]} throughout"
    if curriculum.schedule != "plateau":
        ordered = {"forward": "", "reverse": ", reversed", "shuffle": ", shuffled"}[order]
        return (
            f"{curriculum.schedule} from {names[0]} to {names[-1]}, by {curriculum.mix_by}{ordered}"
        )
    if order == "reverse":
        names = names[::-1]
    switches = results["switches"]
    stages = [names[0]]
    stages += [
        f"from step {switch:,} ({switch / steps:.0%} of the run) on {name}"
        for switch, name in zip(switches, names[1:], strict=False)
    ]
    if len(switches) < len(names) - 1:
        stages.append(f"no plateau was seen after that, {names[-1]} was not reached")
    return ", ".join(stages)
