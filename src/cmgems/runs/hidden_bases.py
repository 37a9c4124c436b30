"""What a finished run knows of hidden bases, in words: `hidden_bases` of its `results.json`.

The figures are those of `cmgems.training.judge`.
"""

from itertools import product
from typing import Any

from cmgems.utils.text_table import text_table

STRATUM_NAMES = {
    "all": "all",
    "unique": "unique DNA",
    "copies_1_to_2": "1 to 2 copies",
    "copies_3_to_9": "3 to 9 copies",
    "repeats": "10 and more",
    "soft_masked": "soft-masked",
}
OF_GENOME = "genome_"  # begins the strata of several genomes, which are called as these are
# (in a table, in a sentence)
REFERENCE_NAMES = {
    "composition": ("composition", "composition"),
    "markov_seen": ("Markov, same data", "the Markov model of the same data"),
    "markov": ("Markov, all data", "the Markov model of all training data"),
}
# The masks under which a finished model is judged, the headline's first.
JUDGE_NAMES = {
    "random_wide": "wide random masks",
    "random": "random masks",
    "global_pmi": "masks of PMI",
    "isolated": "isolated bases",
}
JUDGED_BITS = ("model", "recalibrated")
RELATIONS = ("below", "not told apart from", "above")


def hidden_bases_table(hidden: dict[str, Any], indent: str = "") -> str:
    """Bits per hidden base by copies, each with half of its 95 % interval."""
    references = [short for short, _ in REFERENCE_NAMES.values()]
    gained = "gained over Markov" if "gain_left_out" not in hidden else ""
    rows = [["", "bases", "model", *references, gained]]
    for name, found in hidden["strata"].items():
        bits = found["bits"]
        title = STRATUM_NAMES.get(name, name.removeprefix(OF_GENOME))
        cells = [title, f"{found['fraction']:.0%}", _half(bits["model"])]
        cells += [_half(bits[reference]) for reference in REFERENCE_NAMES]
        if "gained_over_markov" in found:
            cells.append(_half(found["gained_over_markov"]))
        rows.append(cells)
    return text_table(rows, "<>", indent)


def judges_table(judges: dict[str, Any], indent: str = "") -> str:
    """Bits per hidden base under the masks of each judge, as they are and recalibrated."""
    rows = [["", "all", "recalibrated", "unique DNA", "recalibrated", "Markov there"]]
    for name, judged in judges.items():
        cells = [JUDGE_NAMES[name]]
        strata = judged.get("strata", {})
        for stratum, quantity in (*product(("all", "unique"), JUDGED_BITS), ("unique", "markov")):
            interval = strata.get(stratum, {"bits": {}})["bits"].get(quantity)
            cells.append(_half(interval) if interval else "-")
        rows.append(cells)
    return text_table(rows, "<>", indent)


def hidden_bases_verdict(hidden: dict[str, Any]) -> list[str]:
    """Sentences: where the model stands to the references, over all hidden bases and in unique
    DNA, and what it gains over a model that counts. Fewer bits are better."""
    strata = hidden["strata"]
    lines = [f"Over all hidden bases the model is {_relations(strata['all'])}."]
    if "unique" in strata:
        lines.append(f"In unique DNA it is {_relations(strata['unique'])}.")
    lines.append(_gain(hidden))
    return lines


def _relations(found: dict[str, Any]) -> str:
    """`below A and B, and above C`."""
    by_relation: dict[str, list[str]] = {relation: [] for relation in RELATIONS}
    for name, (_, title) in REFERENCE_NAMES.items():
        by_relation[_relation(found["model_less"][name])].append(title)
    clauses = [f"{relation} {_and(named)}" for relation, named in by_relation.items() if named]
    return ", ".join(clauses[:-1]) + (", and " if len(clauses) > 1 else "") + clauses[-1]


def _relation(difference: dict[str, float | None]) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return "not told apart from"
    return "below" if high < 0 else "above"


def _and(named: list[str]) -> str:
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _gain(hidden: dict[str, Any]) -> str:
    if "gain_left_out" in hidden:
        return f"What it gains over the Markov model is not measured: {hidden['gain_left_out']}."
    gain = hidden["strata"]["all"]["gained_over_markov"]
    if gain["low"] is None or gain["low"] <= 0:
        return "Mixed with the Markov model of all training data it gains nothing over it."
    size = f"{gain['mean']:.3f} bits per base over it ({gain['low']:.3f} to {gain['high']:.3f})"
    if gain["high"] < 0.001:
        size = "less than 0.001 bits per base over it"
    return f"Mixed with the Markov model of all training data it gains {size}."


def _half(interval: dict[str, float]) -> str:
    """The mean and half of the interval, which is symmetric."""
    if interval["low"] is None:
        return f"{interval['mean']:.3f}"
    return f"{interval['mean']:.3f} ±{interval['high'] - interval['mean']:.3f}"
