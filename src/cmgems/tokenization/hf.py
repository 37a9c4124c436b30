"""Vocabularies as `tokenizers` files, for tools of the Hugging Face family.

The ids equal those of `Tokenization.encode`. Single bases and non-overlapping k-mers are read from
plain DNA: a regular expression that prefers k known bases to one character, applied from the left,
cuts as `cmgems.tokenization.nonoverlapping` does, and one that takes up to 10,000 known bases cuts
the pieces of byte pairs. The text of
overlapping k-mers is DNABERT's: k-mers between blanks, as `kmer_text` writes them. (A fast
tokenizer cannot cut overlapping pieces out of plain text: each character belongs to one token.)
"""

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from cmgems.genome.alphabet import BASES
from cmgems.tokenization.base import CLS, SEP, SPECIAL_TOKENS, Tokenization
from cmgems.tokenization.bases import SingleBases
from cmgems.tokenization.bpe import PIECE, BytePairs
from cmgems.tokenization.kmers import OverlappingKmers
from cmgems.tokenization.nonoverlapping import NonOverlappingKmers

NO_TOKEN = "what is no k-mer"  # no token of any vocabulary


def kmer_text(sequence: str, k: int) -> str:
    """`ACGTACG` -> `ACGTAC CGTACG` for k = 6."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def input_text(tokenization: Tokenization) -> str:
    """What text the tokenizer takes, in words."""
    if isinstance(tokenization, SingleBases | NonOverlappingKmers):
        return "plain DNA in either case; what is not A, C, G or T is N"
    if isinstance(tokenization, BytePairs):
        return "plain DNA in either case; what is not A, C, G or T is [UNK]"
    example = kmer_text("ACGTACG", tokenization.k)
    return f"k-mers between blanks: `ACGTACG` is `{example}` for k = {tokenization.k}"


def fast_tokenizer(tokenization: Tokenization, sep_token: bool = True) -> Tokenizer:
    """A tokenizer that puts [CLS] in front and, with `sep_token`, [SEP] behind."""
    ids = {token: id_ for id_, token in enumerate(tokenization.vocabulary)}
    # Of k-mers nothing is unknown after the normalizer. What still is, plain DNA say, is an error:
    # it would be one [UNK] otherwise, without a word.
    unknown = NO_TOKEN if isinstance(tokenization, OverlappingKmers) else "[UNK]"
    model: models.Model = models.WordLevel(ids, unk_token=unknown)
    if isinstance(tokenization, BytePairs):
        model = models.BPE(vocab=ids, merges=list(tokenization.merges), unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    if not isinstance(tokenization, OverlappingKmers):
        tokenizer.normalizer = _upper_case_bases()
        piece = "."
        if isinstance(tokenization, NonOverlappingKmers):
            piece = f"[{BASES}]{{{tokenization.k}}}|."
        if isinstance(tokenization, BytePairs):
            piece = f"[{BASES}]{{1,{PIECE}}}|."
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(piece), "isolated")
    else:
        tokenizer.normalizer = _upper_case_kmers(tokenization.k)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if sep_token else "[CLS] $A",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


def _upper_case_kmers(k: int) -> normalizers.Normalizer:
    """Either case, and [UNK] for k letters that are not all bases."""
    upper = [normalizers.Replace(base.lower(), base) for base in BASES]
    unknown = rf"(?<!\S)(?![{BASES}]{{{k}}}(?!\S))\S{{{k}}}(?!\S)"
    return normalizers.Sequence([*upper, normalizers.Replace(Regex(unknown), "[UNK]")])


def _upper_case_bases() -> normalizers.Normalizer:
    """Either case, and N for all that is no base, as in `encode_bases`."""
    upper = [normalizers.Replace(base.lower(), base) for base in BASES]
    return normalizers.Sequence([*upper, normalizers.Replace(Regex(f"[^{BASES}]"), "N")])
