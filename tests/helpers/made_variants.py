"""A VCF of made variants that holds every oddity of the files that people have."""

from typing import NamedTuple

import numpy as np

BASES = "ACGT"
LONG = 200  # bases of an allele that no window of the tests holds


class MadeVcf(NamedTuple):
    """A file, and what is to come of it: for each alternative the kind of reason why it has no
    score, "" where it has one."""

    data: bytes
    outcomes: list[str]


def make_vcf(contigs: dict[str, str], count: int, seed: int = 0) -> MadeVcf:
    """A VCF with at least `count` alternatives on contigs, by their names; among known bases."""
    generator = np.random.default_rng(seed)
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=HARMS,Number=0,Type=Flag,Description="label">']
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    raw = [line.encode() for line in lines]
    outcomes: list[str] = []
    kinds = list(_KINDS)
    while len(outcomes) < count:
        kind = kinds[len(raw) % len(kinds)]
        name = list(contigs)[int(generator.integers(len(contigs)))]
        line, expected = _KINDS[kind](name, contigs[name], generator)
        raw.append(line if isinstance(line, bytes) else line.encode())
        outcomes += expected
    return MadeVcf(b"\n".join(raw) + b"\n\n", outcomes)


def _site(text, generator, size=1):
    """A position, from 1, far from the ends and from unknown bases, and the bases there."""
    while True:
        start = int(generator.integers(100, len(text) - 100 - size))
        if set(text[start - 100 : start + size + 100]) <= set(BASES):
            return start + 1, text[start : start + size]


def _other(base, generator):
    return str(generator.choice([b for b in BASES if b != base]))


def _row(name, pos, ref, alt, id_=".", info="."):
    return f"{name}\t{pos}\t{id_}\t{ref}\t{alt}\t.\tPASS\t{info}"


def _exchange(name, text, generator, **more):
    pos, ref = _site(text, generator)
    harms = "HARMS" if generator.random() < 0.5 else "."
    return _row(name, pos, ref, _other(ref, generator), **{"info": harms, **more})


def _simple(reference_bases, alternative):
    """Lines of one alternative that has a score; `alternative(ref, generator)` writes it."""

    def line(name, text, generator):
        pos, ref = _site(text, generator, reference_bases)
        return _row(name, pos, ref, alternative(ref, generator), info="HARMS"), [""]

    return line


def _listed(alternative, why):
    def line(name, text, generator):
        pos, ref = _site(text, generator)
        return _row(name, pos, ref, alternative), [why]

    return line


def _changed(change, why):
    """A line like those of exchanges with one field changed."""

    def line(name, text, generator):
        fields = _exchange(name, text, generator).split("\t")
        change(fields)
        return "\t".join(fields), [why]

    return line


def _set(number, value):
    def change(fields):
        fields[number] = value

    return change


def _several(name, text, generator):
    pos, ref = _site(text, generator, 2)
    alts = f"{ref[0]},<DEL>,{ref}GATTACA,*"
    return _row(name, pos, ref, alts), ["", "symbolic alternative", "", "spanning deletion"]


def _mismatch(name, text, generator):
    pos, ref = _site(text, generator)
    return _row(name, pos, _other(ref, generator), ref), ["reference mismatch"]


def _lower_case(name, text, generator):
    return _exchange(name, text, generator).replace("HARMS", "harms").lower().replace(
        name.lower(), name
    ), [""]


def _renamed(prefix):
    return lambda name, text, generator: (_exchange(prefix + name, text, generator), [""])


def _named(id_):
    return lambda name, text, generator: (_exchange(name, text, generator, id_=id_), [""])


_KINDS = {
    "exchange": lambda *site: (_exchange(*site), [""]),
    "exchange of three": _simple(3, lambda ref, g: "".join(_other(b, g) for b in ref)),
    "insertion": _simple(1, lambda ref, g: ref + "ACGTTGA"),
    "deletion": _simple(5, lambda ref, g: ref[0]),
    "deletion and insertion": _simple(4, lambda ref, g: _other(ref[0], g) + "TT"),
    "several": _several,
    "lower case": _lower_case,
    "other name": _renamed("chr"),
    "quote": _named('"rs1'),
    "letters": _named("λ→rs1"),
    "Latin-1": lambda *site: (_exchange(*site, id_="é").encode("latin-1"), [""]),
    "carriage return": lambda *site: (_exchange(*site) + "\r", [""]),
    "control characters": _named("\x1b[31mrs\x07"),
    "long field": lambda *site: (_exchange(*site, info="A" * 140_000), [""]),
    "symbolic": _listed("<INS:ME:ALU>", "symbolic alternative"),
    "star": _listed("*", "spanning deletion"),
    "none": _listed(".", "no alternative"),
    "breakend": _listed("G]17:198982]", "breakend"),
    "single breakend": _listed("G.", "breakend"),
    "ambiguous": _listed("R", "letters other than A, C, G and T"),
    "long": _listed("A" * LONG, "longer than the window"),
    "formula": _listed("=1+1", "letters other than A, C, G and T"),
    "contig": _changed(_set(0, "chrUn_7"), "not in the genome"),
    "behind the end": _changed(_set(1, "999999999"), "not in the genome"),
    "mismatch": _mismatch,
    "the same": _changed(lambda f: _set(4, f[3])(f), "the alternative is the reference"),
    "reference N": _changed(_set(3, "N"), "letters other than A, C, G and T"),
    "no digits": _changed(_set(1, "1²"), "malformed line"),
    "Arabic digits": _changed(_set(1, "٣٤"), "malformed line"),
    "too many digits": _changed(_set(1, "9" * 5000), "malformed line"),
    "position 0": _changed(_set(1, "0"), "malformed line"),
    "negative": _changed(_set(1, "-5"), "malformed line"),
    "few columns": _changed(lambda f: f.__delitem__(slice(3, None)), "malformed line"),
    "spaces": lambda *site: (_exchange(*site).replace("\t", " "), ["malformed line"]),
}
