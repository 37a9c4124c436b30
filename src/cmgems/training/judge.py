"""What a finished model knows of hidden bases, beside models that only count.

Bits per hidden base over all counted bases, by copies (`cmgems.training.copies`) and by place
(`cmgems.training.strata`), each with its 95 % interval over validation windows; the model's
differences to the references are paired, base by base. `judge` has the figures of the headline,
under wide random masks; `judge_masks` those under any masks, as they are and recalibrated. H is the
number of counted hidden bases.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from cmgems.training.copies import STRATA
from cmgems.training.final_references import FinalReferences, JudgeReferences
from cmgems.training.mixture import gain_over
from cmgems.training.recalibration import recalibrate
from cmgems.utils.intervals import Interval, ratio_interval

REFERENCES = ("composition", "markov_seen", "markov")
ALL, UNIQUE = "all", "unique"  # the strata of the headline


class BasePredictions(NamedTuple):
    """A model's prediction of the counted bases of all windows, in the order of the references."""

    bits_H: np.ndarray  # float: -log2 of the probability of the true base
    probability_H4: np.ndarray | None  # its distributions; None if the tokens do not give any


class WindowSums:
    """What is measured, added up window by window: from them `cmgems compare` pairs the windows of
    runs. The arrays are named MASKS/STRATUM/QUANTITY, and `bases` counts the bases of each window.

    Parameters
    ----------
    masks : the judge
    windows : their number, those without a counted base included
    """

    def __init__(self, masks: str, windows: int):
        self.masks, self.windows = masks, windows
        self.arrays: dict[str, np.ndarray] = {}  # [windows]

    def add(self, stratum: str, quantity: str, values_H: np.ndarray, window_H: np.ndarray) -> None:
        sums_N = np.bincount(window_H, values_H, minlength=self.windows)
        self.arrays[f"{self.masks}/{stratum}/{quantity}"] = sums_N.astype(np.float32)
        counts_N = np.bincount(window_H, minlength=self.windows)
        self.arrays[f"{self.masks}/{stratum}/bases"] = counts_N.astype(np.uint16)


def judge_masks(
    predictions: BasePredictions, references: JudgeReferences | FinalReferences, sums: WindowSums
) -> dict[str, Any]:
    """The figures of one of the `judges` in a run's `results.json`, over all bases and in unique
    DNA: bits of the model, recalibrated (`cmgems.training.recalibration`), and of the references.
    What `compare` needs of them is added to `sums`."""
    strata = {}
    for name in (ALL, UNIQUE):
        held_H = STRATA[name].holds(references.copies_H)
        if not held_H.any():
            continue
        true_H, window_H = references.true_H[held_H], references.window_H[held_H]
        bits_H = {"model": predictions.bits_H[held_H]}
        found: dict[str, Any] = {"bases": int(held_H.sum())}
        if predictions.probability_H4 is not None:
            mended = recalibrate(predictions.probability_H4[held_H], true_H, window_H)
            bits_H["recalibrated"] = mended.bits_H
            found |= {
                "inverse_temperature": mended.inverse_temperature,
                "bias": list(mended.bias_4),
            }
        for quantity, values_H in bits_H.items():
            sums.add(name, quantity, values_H, window_H)
        bits_H |= {kind: values[held_H] for kind, values in references.bits_H.items()}
        found["bits"] = {kind: _interval(values, window_H) for kind, values in bits_H.items()}
        strata[name] = found
    return {"windows": len(np.unique(references.window_H)), "strata": strata}


def judge(
    predictions: BasePredictions, references: FinalReferences, sums: WindowSums
) -> dict[str, Any]:
    """The figures of `hidden_bases` in a run's `results.json`, as plain numbers; no interval (None)
    where there is a single window. A stratum without bases is left out. Gains over all bases and in
    unique DNA are added to `sums`."""
    held = {name: stratum.holds(references.copies_H) for name, stratum in STRATA.items()}
    strata = {
        name: _judge_stratum(predictions, references, held_H, name, sums)
        for name, held_H in (held | references.strata_H).items()
        if held_H.any()
    }
    return {
        "windows": len(np.unique(references.window_H)),
        "markov_order": references.markov_order,
        "markov_seen_order": references.markov_seen_order,
        "seen_bases": references.seen_bases,
        "strata": strata,
    }


def _judge_stratum(
    predictions: BasePredictions,
    references: FinalReferences,
    held_H: np.ndarray,
    name: str,
    sums: WindowSums,
) -> dict[str, Any]:
    window_H = references.window_H[held_H]
    bits_H = {"model": predictions.bits_H, **references.bits_H}
    bits_H = {name: values[held_H] for name, values in bits_H.items()}
    found = {
        "bases": int(held_H.sum()),
        "fraction": float(held_H.mean()),
        "bits": {name: _interval(values, window_H) for name, values in bits_H.items()},
        "model_less": {
            name: _interval(bits_H["model"] - bits_H[name], window_H) for name in REFERENCES
        },
    }
    if predictions.probability_H4 is not None:
        gain = gain_over(
            predictions.probability_H4[held_H],
            references.markov_H4[held_H],
            references.true_H[held_H],
            window_H,
        )
        found["gained_over_markov"] = _interval(gain.bits_H, window_H) | {
            "model_weight": gain.model_weight,
            "markov_weight": gain.other_weight,
        }
        if name in (ALL, UNIQUE):
            sums.add(name, "gained_over_markov", gain.bits_H, window_H)
    return found


def _interval(values_H: np.ndarray, window_H: np.ndarray) -> dict[str, float | None]:
    """The mean per base and its interval over windows."""
    windows = int(window_H.max()) + 1
    sums_N = np.bincount(window_H, values_H, minlength=windows)
    interval = ratio_interval(sums_N, np.bincount(window_H, minlength=windows))
    return plain(interval)


def plain(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, which knows no nan."""
    return {
        name: None if math.isnan(value) else value
        for name, value in zip(("mean", "low", "high"), interval[:3], strict=True)
    }


def reference_bits(judged: dict[str, Any]) -> dict[str, float]:
    """The references over all counted bases, as `reference` in `results.json` holds them."""
    overall = judged["strata"][ALL]
    return {
        **{f"{name}_bits": overall["bits"][name]["mean"] for name in REFERENCES},
        "markov_order": judged["markov_order"],
        "markov_seen_order": judged["markov_seen_order"],
        "hidden_bases": overall["bases"],
    }


def named_scalars(judged: dict[str, Any]) -> dict[str, float]:
    """What is logged at the end of a run: `final_STRATUM/...`."""
    scalars = {}
    for stratum, found in judged["strata"].items():
        scalars[f"final_{stratum}/hidden_bases"] = found["bases"]
        for name, interval in found["bits"].items():
            scalars[f"final_{stratum}/{name}_bits"] = interval["mean"]
        if gain := found.get("gained_over_markov"):
            scalars[f"final_{stratum}/bits_gained_over_markov"] = gain["mean"]
    return scalars


def judges_scalars(judges: dict[str, Any]) -> dict[str, float]:
    """What is logged of the judges: `judge_MASKS/STRATUM_QUANTITY_bits`."""
    return {
        f"judge_{masks}/{stratum}_{quantity}_bits": interval["mean"]
        for masks, judged in judges.items()
        for stratum, found in judged.get("strata", {}).items()
        for quantity, interval in found["bits"].items()
    }
