"""Finished runs whose results are made up, so that what a comparison shows of them is known."""

import json

import numpy as np
from helpers.paths import EXPERIMENTS

from cmgems.config.loading import dump
from cmgems.runs.experiment import load
from cmgems.runs.hidden_bases import JUDGE_NAMES

STEPS = np.arange(0, 1001, 100)
WINDOWS = 40


def write_run(folder, strategy, seed, bits, probe=None, more=(), judged=None, **results):
    """A finished run whose hidden-base bits fall to `bits`.

    `judged` are bits in unique DNA by window, float [WINDOWS], per judge of JUDGE_NAMES; more than
    one base per window, and another number in each.
    """
    name = folder.name
    overrides = [f"curriculum.strategies=[{strategy}]", f"seed={seed}", f"name={name}", *more]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(load(EXPERIMENTS / "pretrain/base.yaml", overrides)))
    curve = bits + (2.0 - bits) * (1 - STEPS / 1000) ** 2
    metrics = {
        "validation_random/loss": curve + 1,
        "validation_random_wide/loss": curve + 2,
        "validation_random_wide/hidden_base_bits": curve,
        "train/loss": curve + 3,
        "validation_reference/markov_bits": np.full(len(STEPS), 1.92),
        "validation_reference/markov_order": np.full(len(STEPS), 11),
    }
    if probe is not None:
        score = probe - 0.4 * (1 - STEPS / 1000)
        for name in ("accuracy", "auroc", "ece", "neighbours_auroc"):
            metrics[f"probe/prom_core/{name}"] = score
    if judged:
        metrics |= write_window_sums(folder, judged)
    with open(folder / "metrics.csv", "w") as handle:
        handle.write("step,name,value\n")
        for tag, values in metrics.items():
            steps = STEPS[-len(values) :]  # what is measured at the end alone has one value
            handle.writelines(f"{s},{tag},{float(v)}\n" for s, v in zip(steps, values, strict=True))
    wide = {"loss": bits + 2, "hidden_base_bits": bits}
    default_results = {
        "final": {"random": {"loss": bits + 1}, "random_wide": wide},
        "reference": {"composition_bits": 1.99, "markov_bits": 1.91, "markov_order": 11},
        "tokens": 2_000_000,
        "training_seconds": 50.0,
        "genome": {"name": "made up", "sha256": "0", "bases": 1000},
        "git_revision": "0123456789abcdef",
    }
    (folder / "results.json").write_text(json.dumps(default_results | results))


def write_window_sums(folder, judged):
    """The sums of a run, and what metrics.csv has of them. Recalibrated it is half as far from 1.95
    as it was."""
    arrays, metrics = {}, {}
    for masks, bits_N in judged.items():
        bases_N = 20 + (7 * np.arange(WINDOWS) + len(masks)) % 30
        arrays[f"{masks}/unique/bases"] = bases_N.astype(np.uint16)
        for quantity, scale in (("model", 1.0), ("recalibrated", 0.5)):
            sums_N = (1.95 + scale * (np.asarray(bits_N) - 1.95)) * bases_N
            arrays[f"{masks}/unique/{quantity}"] = sums_N.astype(np.float32)
            tag = f"judge_{masks}/unique_{quantity}_bits"
            metrics[tag] = [sums_N.sum() / bases_N.sum()]
    metrics["final_unique/composition_bits"] = [1.985]
    metrics["final_unique/markov_bits"] = [1.96]
    metrics["final_unique/model_bits"] = metrics["judge_random_wide/unique_model_bits"]
    np.savez_compressed(folder / "window_sums.npz", **arrays)
    return metrics


def write_arms(folder, arms, seeds=3, **effects):
    """Runs of `arms` experiments, `random` and arm_1, arm_2, ...; an effect in bits of one of them
    is given as arm_1={"random_wide": -0.02, ...}, of which the first is that of its curve."""
    rng = np.random.default_rng(0)
    by_window = {masks: 0.05 * rng.standard_normal(WINDOWS) for masks in JUDGE_NAMES}
    for seed in range(seeds):
        by_seed = 0.01 * rng.standard_normal()
        for index in range(arms):
            name = f"arm_{index}" if index else "random"
            effect = effects.get(name, {})
            noise = by_seed + 0.001 * rng.standard_normal()
            judged = {
                masks: 1.95
                + noise
                + effect.get(masks, 0.0)
                + by_window[masks]
                + 0.01 * rng.standard_normal(WINDOWS)
                for masks in JUDGE_NAMES
            }
            bits = 1.95 + noise + next(iter(effect.values()), 0.0)
            strategy, more = (
                ("span", [f"masking.span_width={3 + index}"]) if index else ("random", [])
            )
            probe = 0.7 + 0.005 * rng.standard_normal()
            write_run(folder / f"{name}-seed{seed}", strategy, seed, bits, probe, more, judged)
