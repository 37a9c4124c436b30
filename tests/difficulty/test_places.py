"""Where k-mers lie, against a slow look at each occurrence."""

import numpy as np
from helpers.genome_files import build

from cmgems.cli import main
from cmgems.difficulty import places
from cmgems.difficulty.places import ISLAND, find_islands, find_kmer_places
from cmgems.difficulty.repeats import genome_repeats

K = 3


def sequence(seed, size, letters="ACGT"):
    return "".join(np.random.default_rng(seed).choice(list(letters), size))


def slow_islands(text):
    found = [False] * len(text)
    for start in range(len(text) - ISLAND + 1):
        window = text[start : start + ISLAND].upper()
        c, g, cpg = window.count("C"), window.count("G"), window.count("CG")
        if "N" not in window and (c + g) / ISLAND > 0.5 and c * g and cpg * ISLAND / (c * g) > 0.6:
            found[start : start + ISLAND] = [True] * ISLAND
    return found


def test_occurrences_in_repeats_islands_and_lower_case(tmp_path, monkeypatch):
    repeat = sequence(1, 40)
    rich = sequence(2, 300, "ACGTCG")
    contig = "".join(sequence(seed, 37, "ACGTat") + repeat for seed in range(3, 15))
    texts = [contig + "N" + rich + sequence(20, 200, "ATag"), rich[:150].lower() + sequence(21, 90)]
    genome = build(tmp_path, "".join(f">c{i}\n{t}\n" for i, t in enumerate(texts)).encode())
    monkeypatch.setattr(places, "_CHUNK", 101)
    found = find_kmer_places(genome, K)
    repeats = genome_repeats(genome)
    wanted = np.zeros((4, 4**K), int)
    for contig_, text in zip(genome.contigs, texts, strict=True):
        islands = slow_islands(text)
        for start in range(len(text) - K + 1):
            kmer, middle = text[start : start + K], start + (K - 1) // 2
            if "N" in kmer:
                continue
            index = int("".join(str("ATCG".index(base)) for base in kmer.upper()), 4)
            in_repeat = repeats.holds(contig_.start + middle, 1)[0]
            wanted[:, index] += [1, in_repeat, islands[middle], text[middle].islower()]
    assert np.array_equal(np.stack(found), wanted)
    assert (wanted.sum(1) > 100).all()


def test_islands_of_a_sequence():
    text = sequence(5, 500) + sequence(6, 400, "CG") + "N" + sequence(7, 300, "ACGTCG")
    codes = np.array(["ATCGN".index(base) for base in text], np.uint8)
    assert find_islands(codes).tolist() == slow_islands(text)
    assert not find_islands(codes[: ISLAND - 1]).any()


def test_the_command_prints_them(tmp_path, capsys):
    build(tmp_path, f">x\n{sequence(1, 3000)}\n".encode())
    words = [str(tmp_path / "store"), "--k", "3", "--min-count", "20"]
    assert main(["pmi", *words, "--places"]) == 0
    lines = capsys.readouterr().out.split("where they lie:\n")[1].splitlines()
    assert lines[0].split("  ")[0] == "rank"
    assert "soft-masked" in lines[0]
    assert lines[-1].split()[:3] == ["all", "64", "2,998"]
    assert main(["pmi", words[0], *words, "--places"]) == 2
    assert "--places: found 2 genomes" in capsys.readouterr().err
