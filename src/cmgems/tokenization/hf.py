"""The k-mer vocabulary as a `tokenizers` file, for tools of the Hugging Face family.

Its text is DNABERT's: overlapping k-mers between blanks, as `kmer_text` writes them. (A fast
tokenizer cannot cut overlapping pieces out of plain text: each character belongs to one token.)
The ids equal those of `cmgems.tokenization.kmers.token_ids`.
"""

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from cmgems.tokenization.kmers import CLS, SEP, SPECIAL_TOKENS, vocabulary


def kmer_text(sequence: str, k: int) -> str:
    """`ACGTACG` -> `ACGTAC CGTACG` for k = 6."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def kmer_tokenizer(k: int) -> Tokenizer:
    """A tokenizer of k-mer text that puts [CLS] in front and [SEP] behind."""
    ids = {token: id_ for id_, token in enumerate(vocabulary(k))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer
