"""Cached rates are those that were solved, and are read only where nothing has changed."""

import pytest
import torch

from cmgems.masking import rates_cache
from cmgems.masking.rates import CenterRates
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import StrategyParams
from cmgems.tokenization import OverlappingKmers

CPU = torch.device("cpu")


@pytest.fixture
def corpus(human_ids):
    return human_ids[:40, :40]


def rates_of(corpus, rank, folder, name="genemask", params=StrategyParams()):  # noqa: B008
    return CenterRates(corpus, rank, OverlappingKmers(6), folder=folder).rates(
        name, STRATEGIES[name], params, CPU
    )


def test_cached_rates_equal_solved_ones(corpus, human_rank, tmp_path, monkeypatch):
    folder = tmp_path / "rates"
    solved = rates_of(corpus, human_rank, None)
    assert torch.equal(rates_of(corpus, human_rank, folder), solved)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(CenterRates, "_measure_and_solve", None)  # must not be called any more
    cached = rates_of(corpus, human_rank, folder)
    assert cached.dtype == solved.dtype
    assert torch.equal(cached, solved)


def test_each_dependence_has_its_own_file(corpus, human_rank, tmp_path, monkeypatch):
    rates_of(corpus, human_rank, tmp_path)
    rates_of(corpus, human_rank, tmp_path, "global_pmi")
    rates_of(corpus, human_rank, tmp_path, params=StrategyParams(mask_ratio=0.2))
    rates_of(corpus, human_rank, tmp_path, params=StrategyParams(budget="hidden_bases"))
    rates_of(corpus, human_rank.flip(0).contiguous(), tmp_path)
    rates_of(corpus.flip(0).contiguous(), human_rank, tmp_path)
    monkeypatch.setattr(rates_cache, "VERSION", rates_cache.VERSION + 1)
    rates_of(corpus, human_rank, tmp_path)
    assert len(list(tmp_path.iterdir())) == 7


def test_a_damaged_file_is_solved_again(corpus, human_rank, tmp_path):
    solved = rates_of(corpus, human_rank, tmp_path)
    for content in (b"", b"nothing of the kind"):
        next(tmp_path.iterdir()).write_bytes(content)
        assert torch.equal(rates_of(corpus, human_rank, tmp_path), solved)


def test_a_user_strategy_is_not_cached(corpus, human_rank, tmp_path):
    center_rates = CenterRates(corpus, human_rank, OverlappingKmers(6), folder=tmp_path)
    center_rates.rates("my_masks:random", STRATEGIES["random"], StrategyParams(), CPU)
    assert not list(tmp_path.iterdir())
