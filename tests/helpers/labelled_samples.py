"""Labelled files in the formats that users have, with a few real lines of GeneMask and GUE."""

from pathlib import Path

# of prom-core and gue/prom/prom_core_tata, 70 bases each
REAL = [
    ("GTACGGAGAGGAGTAGTTAAAGGGGCGGGACGCGAGGTGCCAATCAGCGGGTGGCCGAGCAAAGTCTGGC", "1"),
    ("ACTACAAATGGACGAGAGAGGCGGCCGTCCATTAGTTAGCGGCTCCGGAGCAACGCAGCCGTTGTCCTTG", "1"),
    ("AAAATATAGGCCGGGGTACCTCAGCCGGAAGGGACTTCAGTTAGTGACAGGTTTTCTGTTCTGATATGGA", "1"),
    ("GCAATAAAAGGCTTAGCCACATAGTGCATGCAGAGCTCTGACTTCTAGGGCAAAACATAAGCATGTACAC", "0"),
    ("ATTATATATGTCTATATTTTTTGCAGCCATTATGCAGATGTAGATCCTGAAAACCAGAACTTTTTACTTG", "0"),
]


def kmers(sequence: str, k: int = 6) -> str:
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def kmer_table(examples, quoted: bool = False, k: int = 6) -> str:
    """A table as the GeneMask authors released theirs (few-shot files are quoted, test is not)."""
    mark = '"' if quoted else ""
    lines = [f"{mark}sequence{mark}\t{mark}label{mark}"]
    lines += [f"{mark}{kmers(s, k)}{mark}\t{mark}{label}{mark}" for s, label in examples]
    return "\n".join(lines) + "\n"


def csv_table(examples) -> str:
    """A table as GUE has it."""
    return "\n".join(["sequence,label", *(f"{s},{label}" for s, label in examples)]) + "\n"


def random_sequences(count: int, length: int, seed: int = 0) -> list[str]:
    import numpy as np

    letters = np.frombuffer(b"ACGT", np.uint8)
    generator = np.random.default_rng(seed)
    return [letters[generator.integers(0, 4, length)].tobytes().decode() for _ in range(count)]


def few_shot_folder(root: Path, name: str, numbers, per_number: int, classes: int, length: int):
    """Published few-shot files of random sequences, and a test file: {number: examples a class}."""
    folder = root / "fewshot" / name
    folder.mkdir(parents=True)
    for number in numbers:
        per_class = number * per_number
        sequences = random_sequences(classes * per_class, length, seed=number)
        examples = [(s, str(i % classes)) for i, s in enumerate(sequences)]
        (folder / f"train_{number}.tsv").write_text(kmer_table(examples, quoted=True))
    examples = [
        (s, str(i % classes)) for i, s in enumerate(random_sequences(30, length, seed=7777))
    ]
    (folder / "test.tsv").write_text(kmer_table(examples))
    return folder
