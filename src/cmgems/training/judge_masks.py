"""The fixed masks under which a finished model is judged besides wide random ones.

A model does best under masks like those that it was trained with, so that a single judge favors
somebody. Each of these masks 15 % of the tokens whatever the run masks (`isolated` fewer), and
every masked token shows [MASK]:

random      places that hide a single base (DNABERT's masks)
random_wide places that hide k bases: the judge of the headline
global_pmi  around the k-mers that rank best by `published` PMI of the run's genome
isolated    one run of k hidden bases in 128 bases, so that no other hidden base is near
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmgems.config.schema import Experiment
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.masking.masker import Masker, Parts
from cmgems.masking.ops import widen
from cmgems.masking.rates import CenterRates
from cmgems.masking.types import STRATEGY, StrategyInput, StrategyParams
from cmgems.tokenization import BytePairs
from cmgems.training.module import FULLY_HIDDEN_MASKS, REFERENCE_PARAMS
from cmgems.utils.rng import uniform_tensor

GLOBAL_PMI, ISOLATED = "global_pmi", "isolated"
FURTHER_JUDGES = ("random", GLOBAL_PMI, ISOLATED)
JUDGES = (FULLY_HIDDEN_MASKS, *FURTHER_JUDGES)
ISOLATED_EVERY = 128  # bases from one hidden run to the next, about


class JudgeMasker(Masker):
    """A masker that knows `isolated`, too, which is not a strategy: it has no rate of centres."""

    def mask(
        self,
        ids_BK: Tensor,
        maskable_BK: Tensor,
        keys_B2: Tensor,
        name: str,
        params: StrategyParams | None = None,
        parts: Parts | None = None,
    ) -> Tensor:
        if name != ISOLATED:
            return super().mask(ids_BK, maskable_BK, keys_B2, name, params, parts)
        every = int(self.tokenization.span_tokens(ISOLATED_EVERY))
        first_B = uniform_tensor(keys_B2, torch.zeros_like(keys_B2[:, 0]), STRATEGY) * every
        positions_K = torch.arange(ids_BK.shape[1], device=ids_BK.device)
        centers_BK = (positions_K - first_B.long()[:, None]) % every == 0
        tokens = StrategyInput(
            tokenization=self.tokenization,
            ids_BK=ids_BK,
            maskable_BK=maskable_BK,
            centers_BK=centers_BK & maskable_BK,
            keys_B2=keys_B2,
            ranks=self.ranks,
        )
        return widen(tokens.centers_BK, tokens) & maskable_BK


class FurtherJudges(NamedTuple):
    """The judges that suit a run, apart from that of the headline."""

    masker: JudgeMasker
    names: tuple[str, ...]
    left_out: dict[str, str]  # name -> why


def build_further_judges(experiment: Experiment, genome: Genome, masker: Masker) -> FurtherJudges:
    """The judges of a run, prepared on the device of its masker."""
    rank_V = masker.rank_V.cpu()
    left_out: dict[str, str] = {}
    tokenization, measured = masker.tokenization, masker.center_rates
    if isinstance(tokenization, BytePairs):
        left_out[GLOBAL_PMI] = "no PMI of byte pairs was published"
    else:
        try:
            table = compute_pmi_table(genome, tokenization.k, "published", experiment.pmi.min_count)
            rank_V = torch.from_numpy(table.rank)
        except UserError as error:  # a genome too small for any score
            left_out[GLOBAL_PMI] = str(error)
    rates = CenterRates(
        measured.corpus_BK, rank_V, tokenization, paper=False, folder=genome.path / "rates"
    )
    judges = JudgeMasker(tokenization, rank_V, rates, params=REFERENCE_PARAMS)
    judges.to(masker.rank_V.device)
    names = tuple(name for name in FURTHER_JUDGES if name not in left_out)
    judges.prepare([name for name in names if name != ISOLATED])
    return FurtherJudges(judges, names, left_out)
