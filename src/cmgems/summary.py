"""The summary of a run that a person reads."""

from pathlib import Path
from typing import Any

from cmgems.config import Experiment

MASK_NAMES = {
    "random": "random masks",
    "random_wide": "wide random masks",
    "in_force": "the run's own masks",
}


def summary(experiment: Experiment, results: dict[str, Any], folder: Path) -> str:
    """What was learned, under which masks, at what speed, and where it lies."""
    lines = ["", f"{experiment.name}: {experiment.train.max_steps:,} steps", ""]
    lines.append(f"  {'validation perplexity':<30}{'untrained':>12}{'trained':>12}")
    for mask, title in MASK_NAMES.items():
        before = results["before"].get(mask, {}).get("perplexity")
        after = results["after"].get(mask, {}).get("perplexity")
        lines.append(f"    {title:<28}{_figure(before)}{_figure(after)}")
    lines += ["", f"  masked share          {_shares(experiment, results['masked_share'])}"]
    lines.append(f"  curriculum            {_curriculum(experiment, results['switched_at'])}")
    lines.append(
        f"  speed                 {results['tokens_per_second']:,.0f} tokens a second, "
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
    lines.append("  cmgems pretrain experiments/pretrain/random.yaml # a baseline to compare with")
    lines.append("  cmgems pretrain experiments/pretrain/cm_gems.yaml data.genome=YOUR.fa")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return f"{'-' if value is None else format(value, ',.1f'):>12}"


def _shares(experiment: Experiment, shares: dict[str, float]) -> str:
    named = ", ".join(f"{name} {share:.4f}" for name, share in shares.items())
    if experiment.masking.center_rate == "paper":
        return f"{named} (at the paper's centre rates)"
    return f"{named} (wanted {experiment.masking.mask_fraction:g})"


def _curriculum(experiment: Experiment, switched_at: int | None) -> str:
    curriculum = experiment.curriculum
    if curriculum.schedule == "constant":
        return f"{curriculum.strategies[0]} throughout"
    easy, hard = curriculum.strategies
    if curriculum.schedule == "linear":
        return f"from {easy} to {hard}, mixed by batch"
    if switched_at is None:
        return f"{easy} throughout: no plateau was seen, {hard} was not reached"
    share = switched_at / experiment.train.max_steps
    return f"{easy}, from step {switched_at:,} on {hard} ({share:.0%} of the run)"
