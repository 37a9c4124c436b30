"""Which stretches of a genome are trained on, and on which strand."""

import numpy as np
import pytest
import torch
from helpers.paths import EXPERIMENTS
from references.intervals import members

from cmgems.config.schema import Data
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.data_modules.sampling import GenomeShare, WindowSampling
from cmgems.data_modules.split import split_genome
from cmgems.data_modules.windows import WindowStream
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.errors import UserError
from cmgems.genome.alphabet import reverse_complement
from cmgems.genome.spans import Spans, intersect, subtract
from cmgems.runs.experiment import load

PIECE = 44_000_000  # bases of chromosome 20 in front of the sample


@pytest.fixture
def bed(tmp_path):
    def write(name, *intervals):
        path = tmp_path / name
        path.write_text("".join(f"chr20\t{start}\t{end}\n" for start, end in intervals))
        return str(path)

    return write


def test_regions_less_what_is_excluded_and_blocks_where_they_always_are(genome, bed):
    regions = bed("a.bed", (PIECE + 1000, PIECE + 900_000), (PIECE + 800_000, PIECE + 2_500_000))
    excluded = bed("b.bed", (PIECE + 500, PIECE + 1100), (PIECE + 300_000, PIECE + 300_050))
    found = split_genome(Data(regions=(regions,), exclude=(excluded,)), genome)
    kept = Spans(np.array([1100, 300_050]), np.array([300_000, 2_500_000]))
    whole = split_genome(Data(), genome)
    assert members(found.training) == members(intersect(whole.training, kept))
    assert members(found.validation) == members(intersect(whole.validation, kept))
    assert found.notices == ()
    assert found.validation.bases == 100_000


def test_held_out_contigs_take_the_place_of_blocks(genome):
    data = Data(
        validation_contigs=("20:44,000,001-44,200,000", "NC_000020.10:47,900,001-48,000,000"),
        test_contigs=("chr20:45,000,001-46,000,000",),
    )
    found = split_genome(data, genome)
    assert list(zip(*map(list, found.validation), strict=True)) == [
        (0, 200_000),
        (3_900_000, 4_000_000),
    ]
    assert list(zip(*map(list, found.training), strict=True)) == [
        (200_000, 1_000_000),
        (2_000_000, 3_900_000),
    ]
    blocks = split_genome(Data(test_contigs=data.test_contigs), genome)
    whole = split_genome(Data(), genome)
    test = Spans(np.array([1_000_000]), np.array([2_000_000]))
    assert members(blocks.validation) == members(subtract(whole.validation, test))


def test_what_is_refused(genome, bed):
    everything = bed("all.bed", (0, 64_000_000))
    both = ("20:44,000,001-44,200,000",)
    for data, message in (
        (Data(exclude=(everything,)), "leave no known base"),
        (Data(regions=(bed("far.bed", (5, 90)),)), "data.regions: .*1 are beyond a contig's ends"),
        (Data(validation_contigs=("21",)), "^data.validation_contigs: found '21', wanted CONTIG"),
        (Data(validation_contigs=both, test_contigs=both), "found bases that are in both"),
    ):
        with pytest.raises(UserError, match=message):
            split_genome(data, genome)
    short = bed("short.bed", (PIECE + 1000, PIECE + 1100))
    with pytest.raises(UserError, match="no stretch of 510 known bases for training"):
        GenomeDataModule(
            load(EXPERIMENTS / "pretrain/random.yaml", [f"data.regions={short}"]), genome
        )


def test_a_notice_says_what_is_not_used(genome, bed):
    found = split_genome(Data(exclude=(bed("a.bed", (5, 90), (PIECE, PIECE + 9)),)), genome)
    assert found.notices == ("data.exclude: of 2 intervals 1 are beyond a contig's ends",)


def test_a_run_goes_on_with_its_own_stretches_alone(genome, bed):
    def module(end):
        regions = bed("a.bed", (PIECE, PIECE + end))
        return GenomeDataModule(
            load(EXPERIMENTS / "pretrain/random.yaml", [f"data.regions=[{regions}]"]), genome
        )

    begun = module(2_500_000)
    assert begun.train_spans.bases + begun.validation_spans.bases == 2_500_000
    state = begun.state_dict()
    module(2_500_000).load_state_dict(state)
    with pytest.raises(UserError, match=r"data\.regions, data\.exclude: their files have changed"):
        module(2_500_001).load_state_dict(state)


def streams(genome, **more):
    spans = Spans(np.array([0]), np.array([100_000]))
    sampling = WindowSampling(full_length=50, min_length=20, full_length_fraction=0.5)
    return [WindowStream(genome.codes, [GenomeShare(spans)], sampling, 7, **more) for _ in range(2)]


def test_half_of_the_windows_are_reverse_complements_by_their_number(genome):
    """Whatever was asked for before, on any number of micro-batches; the DNA and the keys of the
    masks are those of the forward strand."""
    one, other = streams(genome, both_strands=True)
    forward = streams(genome)[0]
    share = []
    for step in range(20):
        whole, plain = one.batch(step * 32, 32, 0, 1), forward.batch(step * 32, 32, 0, 1)
        share += whole.reverse
        assert torch.equal(whole.keys_B2, plain.keys_B2)
        assert plain.reverse == ()
        for row, bases in enumerate(whole.bases):
            wanted = plain.codes_BL[row, :bases].numpy()
            wanted = reverse_complement(wanted) if whole.reverse[row] else wanted
            assert np.array_equal(whole.codes_BL[row, :bases].numpy(), wanted)
            assert (whole.codes_BL[row, bases:] == 4).all()
    assert 0.4 < np.mean(share) < 0.6
    whole = one.batch(19 * 32, 32, 0, 1)
    rows = {tuple(k): c for k, c in zip(whole.keys_B2.tolist(), whole.codes_BL, strict=True)}
    for part in range(4):  # another stream, which has seen no earlier step
        batch = other.batch(19 * 32, 32, part, 4)
        for key, codes in zip(batch.keys_B2.tolist(), batch.codes_BL, strict=True):
            assert torch.equal(codes, rows[tuple(key)])


@pytest.mark.parametrize("experiment", ["bases", "bpe"])
def test_repeats_and_tokens_follow_the_strand(genome, tiny, experiment):
    settings = [*tiny, "train.max_steps=3", "data.strands=both", "masking.repeat_weight=0.1"]
    data = GenomeDataModule(load(EXPERIMENTS / f"pretrain/{experiment}.yaml", settings), genome)
    batch = data.on_before_batch_transfer(data.windows.batch(0, 16, 0, 1), 0)
    assert 0 < sum(batch.reverse) < 16
    for row, (start, bases) in enumerate(zip(batch.starts, batch.bases, strict=True)):
        codes = np.array(genome.codes[start : start + bases])
        repeats = data.is_repeat(start, bases)
        if batch.reverse[row]:
            codes, repeats = reverse_complement(codes), repeats[::-1]
        assert np.array_equal(batch.codes_BL[row, :bases].numpy(), codes)
        assert np.array_equal(batch.in_repeat_BL[row, :bases].numpy(), repeats)
        if experiment == "bpe":
            ids = batch.ids_BK[row, : batch.tokens[row]].tolist()
            spelled = "".join(data.tokenization.vocabulary[id_] for id_ in ids)
            assert spelled == "".join("ATCG"[code] for code in codes)


def test_ranks_are_of_both_strands_where_the_windows_are(genome):
    table = compute_pmi_table(genome, 3, both_strands=True)
    plain = compute_pmi_table(genome, 3)
    assert table.both_strands
    assert not plain.both_strands
    codes = np.arange(64)
    letters = codes // 16 % 4, codes // 4 % 4, codes % 4
    reverse = (letters[2] ^ 1) * 16 + (letters[1] ^ 1) * 4 + (letters[0] ^ 1)
    np.testing.assert_array_equal(table.counts, plain.counts + plain.counts[reverse])
