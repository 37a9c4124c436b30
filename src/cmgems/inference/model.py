"""A pretrained model as an object that is asked about sequences: what the front door gives out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmgems.cost.device import choose_device
from cmgems.errors import UserError
from cmgems.genome.annotation.variants import Variant, read_variants
from cmgems.genome.genome import Genome
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embedding import (
    LAST,
    POOLS,
    embed_sequences,
    embed_tokens,
    resolve_layers,
)
from cmgems.inference.likelihood import length_problem, pseudo_log_likelihood
from cmgems.inference.variants import DEFAULT_FLANK, ScoreOptions, score_variants
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.user_sequences import encode_user_sequences
from cmgems.tokenization import Tokenization


class PretrainedModel:
    """A pretrained model that embeds sequences and says how likely they are; nothing is trained.

    `cmgems.load_pretrained` makes one. Sequences are a list of text (in either case, U for T, IUPAC
    codes for unknown bases) or of base codes as `Genome.codes` has them (uint8 [L]).

    Attributes
    ----------
    network : torch module with the weights, in evaluation mode, float32
    tokenization : Tokenization
        What its tokens are; `tokenization.min_bases` are the bases of the shortest sequence.
    max_bases : int
        Bases of the longest sequence that the model sees at once.
    hidden_size, num_layers : int
    source : the file of the weights
    step : optimizer steps that the model was trained for; None where that is not known

    Examples
    --------
    >>> import cmgems
    >>> cmgems.load_pretrained("runs/cm_gems")  # doctest: +ELLIPSIS
    PretrainedModel('runs/cm_gems/checkpoints/best.ckpt', overlapping 6-mers, ...)
    """

    def __init__(self, pretrained: Pretrained, device: str = "cpu"):
        self.network: MaskedLanguageModel = pretrained.model.to(choose_device(device, "device"))
        self.tokenization: Tokenization = pretrained.tokenization
        self.source, self.step = pretrained.source, pretrained.step
        self._require_head = pretrained.require_head
        shape = self.network.encoder.config
        self.hidden_size, self.num_layers = shape.hidden_size, shape.num_layers
        self.max_bases = self.tokenization.max_bases(shape.max_position_embeddings)

    def __repr__(self) -> str:
        return (
            f"PretrainedModel({self.source!r}, {self.tokenization.description}, "
            f"num_layers={self.num_layers}, "
            f"hidden_size={self.hidden_size}, max_bases={self.max_bases})"
        )

    def embed(
        self,
        sequences: Sequence[str | np.ndarray],
        pool: str = "mean",
        layers: int | Sequence[int] = LAST,
    ) -> np.ndarray:
        """One vector per sequence.

        Parameters
        ----------
        sequences : N sequences of any length from `tokenization.min_bases` on
            One longer than `max_bases` is covered by windows, over which vectors are averaged.
        pool : `mean` or `max` over the tokens, `mean_max`: both, or `cls`: the state of [CLS]
        layers : one or several: 0 the embeddings, 1 the first, ..., -1 the last; (): all but 0
            The vectors of several layers stand one after the other.

        Returns
        -------
        float32 [N, D], D the hidden size times the number of layers, twice that of `mean_max`

        Raises
        ------
        UserError
            If a sequence is too short or not DNA, or the model has no such pool or layer.

        Examples
        --------
        >>> import cmgems
        >>> model = cmgems.load_pretrained("runs/cm_gems")
        >>> model.embed(["ACGTACGTAC", "TTTTTTGGG"]).shape == (2, model.hidden_size)
        True
        """
        codes = encode_user_sequences(sequences, self.tokenization.min_bases)
        if pool not in POOLS:
            raise UserError(f"pool: found {pool!r}, wanted one of {', '.join(POOLS)}")
        chosen = self._resolve_layers(layers)
        if not codes:
            width = len(chosen) * len(POOLS[pool]) * self.hidden_size
            return np.empty((0, width), np.float32)
        return embed_sequences(
            self.network.encoder, pack_codes(codes), self.tokenization, pool, chosen
        )

    def embed_tokens(
        self, sequences: Sequence[str | np.ndarray], layers: int | Sequence[int] = LAST
    ) -> list[np.ndarray]:
        """One vector per token of each sequence, without [CLS] and [SEP].

        Parameters
        ----------
        sequences, layers : see `embed`

        Returns
        -------
        per sequence float32 [K, D]: K tokens, of overlapping k-mers L - k + 1 for L bases; D the
        hidden size times the number of layers

        Raises
        ------
        UserError
            See `embed`.

        Examples
        --------
        >>> import cmgems
        >>> model = cmgems.load_pretrained("runs/cm_gems")
        >>> [states.shape[0] for states in model.embed_tokens(["ACGTACGTAC", "TTTTTTGGG"])]
        [5, 4]
        """
        codes = encode_user_sequences(sequences, self.tokenization.min_bases)
        chosen = self._resolve_layers(layers)
        return [
            embed_tokens(self.network.encoder, each, self.tokenization, chosen) for each in codes
        ]

    def log_likelihood(
        self, sequences: Sequence[str | np.ndarray], per_base: bool = False
    ) -> np.ndarray:
        """Pseudo-log-likelihood: the sum over the bases of ln p(base | all other bases).

        Each base is hidden in turn by masking all tokens over it, so a sequence of L bases costs L
        passes through the model. An unknown base, and one without a token of known bases, is not
        scored.

        Parameters
        ----------
        sequences : N sequences of `tokenization.min_bases` to `max_bases` bases
        per_base : mean over the scored bases in place of the sum; nan where there is none

        Returns
        -------
        float64 [N], nats; 0 is certainty, ln(1/4) = -1.386 per base a guess

        Raises
        ------
        UserError
            If a sequence is too short or too long, or not DNA.

        Examples
        --------
        >>> import cmgems
        >>> model = cmgems.load_pretrained("runs/cm_gems")
        >>> scores = model.log_likelihood(["ACGTACGTAC", "TTTTTTGGG"])
        >>> scores.shape, bool((scores < 0).all())
        ((2,), True)
        """
        self._require_head()
        codes = encode_user_sequences(sequences, self.tokenization.min_bases)
        for number, each in enumerate(codes):
            problem = length_problem(
                self.tokenization, each, self.network.encoder.config.max_position_embeddings
            )
            if problem:
                raise UserError(f"sequences[{number}]: {problem}")
        found = [pseudo_log_likelihood(self.network, self.tokenization, each) for each in codes]
        return np.array([each.mean if per_base else each.total for each in found], np.float64)

    def score_variants(
        self,
        variants: str | Path | Sequence[tuple[str, int, str, str]],
        genome: Genome,
        window: int = 0,
        flank: int | None = DEFAULT_FLANK,
        both_strands: bool = True,
    ) -> np.ndarray:
        """The change of the pseudo-log-likelihood around variants, alternative - reference.

        Exchanges, insertions and deletions of any number of bases; contigs by any of their names
        (`chr20`, `20`, `NC_000020.10`).

        Parameters
        ----------
        variants : tuples (contig, position from 1, reference, alternative), or a file with them
            A VCF, or a table with the columns chrom, pos, ref, alt; plain or gzip. Several
            alternatives in a line are as many variants.
        genome : on which they were called; see `cmgems.load_genome`
        window : bases of each allele that the model sees; 0: `max_bases`
        flank : bases on each side of a variant whose likelihood is summed; 0: the variant's own
            alone, None: the whole window
        both_strands : the mean over both strands, or the forward one alone

        Returns
        -------
        float64 [N], nats, in the order of the variants; below 0, the model finds the reference
        likelier; nan for what cannot be scored: a place that the genome has not, another base than
        the reference there, symbolic alleles. `cmgems score` lists the reasons.

        Raises
        ------
        UserError
            If the file cannot be read, or none of the variants can be scored.

        Examples
        --------
        >>> import cmgems
        >>> model = cmgems.load_pretrained("runs/cm_gems")
        >>> genome = cmgems.load_genome("sample")
        >>> variants = [("chr20", 45_000_000, "G", "A"), ("chr20", 45_000_000, "G", "GTT")]
        >>> scores = model.score_variants(variants, genome, window=64, flank=4)
        >>> scores.shape, bool(np.isfinite(scores).all())
        ((2,), True)
        """
        self._require_head()
        if window < 0 or (flank or 0) < 0:
            raise UserError(f"window, flank: found {window}, {flank}, wanted 0 or more bases")
        if isinstance(variants, str | Path):
            called = list(read_variants(Path(variants)))
        else:
            called = [_variant(f"variants[{n}]", fields) for n, fields in enumerate(variants)]
        options = ScoreOptions(window, flank, both_strands)
        scores = list(score_variants(self.network, self.tokenization, genome, called, options))
        if scores and all(each.why for each in scores):
            raise UserError(f"{called[0].origin}: {scores[0].why}")
        return np.array([each.score for each in scores], np.float64)

    def _resolve_layers(self, layers: int | Sequence[int]) -> list[int]:
        try:
            return resolve_layers([layers] if isinstance(layers, int) else layers, self.num_layers)
        except ValueError as error:
            raise UserError(f"layers: {error}") from error


def _variant(origin: str, fields: tuple[str, int, str, str]) -> Variant:
    """A variant of a list."""
    wanted = [str, int, str, str]
    if not isinstance(fields, tuple) or [type(field) for field in fields] != wanted:
        raise UserError(
            f"{origin}: found {fields!r}, wanted (contig, position, reference, alternative)"
        )
    chrom, pos, ref, alt = fields
    if pos < 1 or not ref or not alt:
        raise UserError(f"{origin}: found {fields!r}, wanted a position from 1 and two alleles")
    return Variant(chrom, pos, "", ref.upper(), alt.upper(), origin)
