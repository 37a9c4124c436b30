"""What a model says of variants: the change of the pseudo-log-likelihood around them.

    score = sum over the scored bases of ln p(base | all others), with the alternative
            - the same sum with the reference; below 0, the model finds the reference likelier

Both sums have the same number of bases: a window of the reference and one of the alternative, of
equal length, begin at the same base; of both, the bases from `flank` in front of the variant to
`flank` behind its longer allele are scored. With a flank of 0 an exchange of one base has the log
ratio of the two bases at its position, all else shown. The score is the mean over both strands.

Variants are trimmed and shifted to the left before (Tan et al., Bioinformatics 2015), so that the
spellings of one change have one score.

Shapes: V variants, P pairs of windows (a strand of a variant each), W bases of a window.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, BASES, encode_bases, reverse_complement
from cmgems.genome.annotation.variants import Variant
from cmgems.genome.genome import Genome
from cmgems.genome.names import ContigNames
from cmgems.inference.likelihood import TOKENS_PER_BATCH, base_log_likelihoods, scorable_bases
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import Tokenization

LETTERS = BASES + "N"
DEFAULT_FLANK = 32  # bases
_KNOWN = set(BASES)


class VariantScore(NamedTuple):
    """`score` is nan where `why` says why there is none."""

    variant: Variant
    score: float
    why: str


class ScoreOptions(NamedTuple):
    """How variants are scored."""

    window: int = 0  # bases that the model sees of each allele; 0: as many as it has positions for
    flank: int | None = DEFAULT_FLANK  # scored on each side of a variant; None: the whole window
    both_strands: bool = True


class _Alleles(NamedTuple):
    """A variant in the form that is scored."""

    contig_codes: np.ndarray  # uint8, of the whole contig
    start: int  # of the reference allele in it, from 0
    ref: np.ndarray  # uint8 base codes, may be empty
    alt: np.ndarray


class _Unusable(Exception):
    """Why a variant has no score: `kind: details`."""


def score_variants(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    genome: Genome,
    variants: Iterable[Variant],
    options: ScoreOptions,
) -> Iterator[VariantScore]:
    """The scores of variants, in their order; those that cannot be scored with the reason why.

    Raises
    ------
    UserError
        If the window is shorter than a token.
    """
    max_bases = tokenization.max_bases(model.encoder.config.max_position_embeddings)
    window = min(options.window or max_bases, max_bases)
    if window < tokenization.min_bases:
        raise UserError(f"window: found {window} bases, wanted {tokenization.min_bases} or more")
    names, rest = ContigNames(genome), iter(variants)
    while part := list(islice(rest, max(1, TOKENS_PER_BATCH // window))):
        scores, reasons = np.full(len(part), np.nan), [variant.why for variant in part]
        usable: list[tuple[int, _Alleles]] = []
        for number, variant in enumerate(part):
            if not variant.why:
                try:
                    usable.append((number, _resolve(names, variant, window)))
                except _Unusable as reason:
                    reasons[number] = str(reason)
        if usable:
            numbers, alleles = zip(*usable, strict=True)
            scores[list(numbers)] = _differences(model, tokenization, alleles, window, options)
        for variant, score, why in zip(part, scores.tolist(), reasons, strict=True):
            missing = not why and np.isnan(score)
            yield VariantScore(variant, score, "unknown bases around it" if missing else why)


def _differences(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    alleles: Iterable[_Alleles],
    window: int,
    options: ScoreOptions,
) -> np.ndarray:
    """float64 [V]: the scores; nan where no base could be scored."""
    windows, spans = zip(*(_windows(a, window, options.flank) for a in alleles), strict=True)
    windows_P2W, span_PW = np.stack(windows), np.stack(spans)
    strands = 2 if options.both_strands else 1
    if options.both_strands:
        windows_P2W = np.concatenate([windows_P2W, reverse_complement(windows_P2W)])
        span_PW = np.concatenate([span_PW, span_PW[:, ::-1]])
    windows = windows_P2W.reshape(-1, window)
    known_P2W = scorable_bases(windows, tokenization).reshape(windows_P2W.shape)
    pair_R, position_R = (span_PW & known_P2W.all(1)).nonzero()
    rows = np.concatenate([2 * pair_R + 1, 2 * pair_R])  # the alternatives, then the references
    nats = base_log_likelihoods(model, tokenization, windows, rows, np.tile(position_R, 2))
    change_R = nats[: len(pair_R)] - nats[len(pair_R) :]
    score_P = np.bincount(pair_R, change_R, minlength=len(windows_P2W))
    score_P[np.bincount(pair_R, minlength=len(windows_P2W)) == 0] = np.nan
    return score_P.reshape(strands, -1).mean(0)


def _windows(alleles: _Alleles, window: int, flank: int | None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [2, W]: the window of the reference and that of the alternative; bool [W]: the bases of
    them that are scored. Beyond the contig's ends bases are unknown."""
    codes, start, ref, alt = alleles
    longer = max(len(ref), len(alt))
    left = (window - longer + 1) // 2
    before = _slice(codes, start - left, start)
    pair = []
    for allele in (ref, alt):
        behind = _slice(codes, start + len(ref), start + len(ref) + window)
        pair.append(np.concatenate([before, allele, behind])[:window])
    span = np.zeros(window, bool)
    reach = window if flank is None else flank
    span[max(left - reach, 0) : left + longer + reach] = True
    return np.stack(pair), span


def _slice(codes: np.ndarray, start: int, end: int) -> np.ndarray:
    """Codes of a contig from start to end - 1, unknown ones beyond its ends."""
    out = np.full(end - start, AMBIGUOUS, np.uint8)
    low, high = max(start, 0), min(end, len(codes))
    if low < high:
        out[low - start : high - start] = codes[low:high]
    return out


def _resolve(names: ContigNames, variant: Variant, window: int) -> _Alleles:
    """A variant on the genome, trimmed and shifted to the left.

    Raises
    ------
    _Unusable
    """
    _check_alleles(variant)
    if max(len(variant.ref), len(variant.alt)) > window:
        raise _Unusable(f"longer than the window: {window} bases")
    start = variant.pos - 1
    try:
        placed = names.place(variant.chrom, start, start + len(variant.ref))
    except UserError as error:
        raise _Unusable(f"not in the genome: {error}") from error
    contig, genome = placed.contig, names.genome
    codes = np.asarray(genome.codes[contig.start : contig.start + contig.length])
    ref, alt = encode_bases(variant.ref), encode_bases(variant.alt)
    found = codes[placed.start : placed.end]
    if not np.array_equal(found, ref):
        letters = "".join(LETTERS[code] for code in found[:20])
        raise _Unusable(f"reference mismatch: {genome.name} has {letters}")
    return _normalized(_Alleles(codes, placed.start, ref, alt))


def _check_alleles(variant: Variant) -> None:
    ref, alt = variant.ref, variant.alt
    if alt in ("", "."):
        raise _Unusable("no alternative")
    if alt == "*":
        raise _Unusable("spanning deletion: the alternative is *")
    if alt.startswith("<"):
        raise _Unusable("symbolic alternative")
    if set(alt) & set("[]") or alt.startswith(".") or alt.endswith("."):
        raise _Unusable("breakend")
    if not ref or not set(ref + alt) <= _KNOWN:
        raise _Unusable("letters other than A, C, G and T")
    if ref == alt:
        raise _Unusable("the alternative is the reference")


def _normalized(alleles: _Alleles) -> _Alleles:
    """Without the bases that both share; insertions and deletions as far left as they go."""
    codes, start, ref, alt = alleles
    shared = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
    shared = _shared(ref, alt)
    start, ref, alt = start + shared, ref[shared:], alt[shared:]
    moved = ref if len(ref) else alt
    if not (len(ref) and len(alt)):
        shift = 0
        while start - shift and codes[start - shift - 1] == moved[-1 - shift % len(moved)]:
            shift += 1
        start -= shift
        moved = np.roll(moved, shift)
        ref, alt = (moved, alt) if len(ref) else (ref, moved)
    return _Alleles(codes, start, ref, alt)


def _shared(a: np.ndarray, b: np.ndarray) -> int:
    """The number of equal bases at the beginning of two alleles."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size
