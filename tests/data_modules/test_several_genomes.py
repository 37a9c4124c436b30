"""Pretraining on several genomes: their stretches, shares, and that a window has one number."""

from dataclasses import replace

import numpy as np
import pytest

from cmgems.config.genomes import GenomeSource
from cmgems.config.schema import Data, Experiment, Masking, Train, Validation
from cmgems.data_modules.pretraining import GenomeDataModule, MicroBatchDataset
from cmgems.data_modules.split import split_genome
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.genome.joined import load_pretraining_genome, member_starts
from cmgems.training.references import MaskedWindows
from cmgems.training.strata import strata_by_place

LENGTHS = {"yeast": (60_000, 9_000), "worm": (30_000, 30_000)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two genomes with contigs of the same names, one of them in lower case, and regions."""
    folder = tmp_path_factory.mktemp("genomes")
    generator = np.random.default_rng(0)
    for name, lengths in LENGTHS.items():
        contigs = ["".join(generator.choice([*"ACGT"], n)) for n in lengths]
        if name == "worm":
            contigs[0] = contigs[0].lower()
        text = "".join(f">chr{i}\n{c}\n" for i, c in enumerate(contigs, start=1))
        (folder / f"{name}.fa").write_text(text)
    (folder / "regions.bed").write_text("1\t500\t20000\nchr2\t0\t8000\nchr9\t0\t10\n")
    return folder


@pytest.fixture(scope="module")
def experiment(files):
    genomes = (
        GenomeSource(
            str(files / "yeast.fa"),
            weight=3,
            regions=(str(files / "regions.bed"),),
            validation_contigs=("2",),
        ),
        GenomeSource(str(files / "worm.fa"), weight=1, test_contigs=("chr1:1-10,000",)),
    )
    data = Data(genomes=genomes, window_length=100, validation_block=1000, strands="both")
    train = Train(max_steps=50, global_batch_size=12, micro_batch_size=3)
    return Experiment(
        seed=4, data=data, train=train, validation=Validation(windows=16, final_windows=10_000)
    )


@pytest.fixture(scope="module")
def data(experiment):
    return GenomeDataModule(experiment, load_pretraining_genome(experiment.data))


def test_each_genome_is_split_as_if_it_were_alone(experiment, data):
    members = [load_genome(source.path) for source in experiment.data.genomes]
    for part, member, start, own in zip(
        data.parts,
        members,
        member_starts(members),
        (
            Data(regions=experiment.data.genomes[0].regions, validation_contigs=("chr2",)),
            Data(test_contigs=("chr1:1-10000",), validation_block=1000),
        ),
        strict=True,
    ):
        alone = split_genome(own, member)
        for found, wanted in zip(part.split[:2], alone[:2], strict=True):
            assert (found.start - start).tolist() == wanted.start.tolist()
            assert (found.end - start).tolist() == wanted.end.tolist()
        for a, b in zip(part.split.training.start[:3], part.split.training.end[:3], strict=True):
            assert np.array_equal(data.codes[a:b], member.codes[a - start : b - start])
    assert [part.name for part in data.parts] == ["yeast", "worm"]
    (notice,) = data.split.notices
    assert notice.endswith(
        "yeast.fa: data.regions: of 3 intervals 1 are on contigs that it has not"
    )
    assert data.train_spans.bases == sum(part.split.training.bases for part in data.parts)
    assert (np.diff(np.stack(data.train_spans).T.ravel()) >= 0).all()


def genomes_of(starts, data):
    return np.searchsorted([part.start for part in data.parts], starts, side="right") - 1


def test_windows_are_those_of_training_in_their_shares_whatever_the_ranks(experiment, data):
    def step(number, ranks, fresh):
        windows = GenomeDataModule(experiment, data.genome).windows if fresh else data.windows
        parts = [MicroBatchDataset(windows, 12, 3, rank, ranks) for rank in range(ranks)]
        of_a_rank = 4 // ranks
        return sorted(
            (key, start, bases, reverse, row[:bases])
            for part in parts
            for n in range(of_a_rank)
            for batch in [part[number * of_a_rank + n]]
            for key, start, bases, reverse, row in zip(
                batch.keys_B2.tolist(),
                batch.starts,
                batch.bases,
                batch.reverse,
                batch.codes_BL.tolist(),
                strict=True,
            )
        )

    steps = [step(number, 1, fresh=False) for number in range(50)]
    for number, ranks in ((0, 2), (49, 4), (17, 1)):  # 17: as a run that is resumed there
        assert step(number, ranks, fresh=True) == steps[number]
    starts = np.array([start for rows in steps for _, start, *_ in rows])
    ends = np.array([start + bases for rows in steps for _, start, bases, *_ in rows])
    owner = np.searchsorted(data.train_spans.start, starts, side="right") - 1
    assert (ends <= data.train_spans.end[owner]).all()
    assert np.bincount(genomes_of(starts, data)).tolist() == [450, 150]
    seen = np.concatenate([part.start for part in data.trained_on()])
    assert sorted(seen.tolist()) == sorted(starts.tolist())


def test_validation_and_the_corpus_of_masks_have_the_shares_too(data):
    genome = genomes_of(data.validation_windows.start, data)
    assert np.bincount(genome).tolist() == [12, 4]
    assert data.final_windows.start[:16].tolist() == data.validation_windows.start.tolist()
    assert data.final_windows.length.sum() > 0.95 * data.validation_spans.bases
    rows = {codes.tobytes() for codes in data.corpus(40, 100)}
    yeast = data.codes[: data.parts[1].start]
    assert len(rows) == 40
    assert sum(row in yeast.tobytes() for row in rows) == 30


def test_strata_are_by_genome_and_by_case(data):
    """Of the worm, the first contig is soft-masked and the second is not."""
    worm = data.parts[1].start
    counted_BL = np.array([[True, True, False, True], [False, True, True, False]])
    start_B = np.array([worm + 100, len(data.codes) - 3])
    masked = MaskedWindows(np.zeros((2, 4), np.uint8), counted_BL, counted_BL, start_B)
    strata = strata_by_place(data.genome, data.parts, masked)
    assert {name: held.tolist() for name, held in strata.items()} == {
        "soft_masked": [True] * 3 + [False] * 2,
        "genome_yeast": [False] * 5,
        "genome_worm": [True] * 5,
    }
    both = masked._replace(start_B=np.array([0, worm + 100]))
    strata = strata_by_place(data.genome, data.parts, both)
    assert strata["soft_masked"].tolist() == [False] * 3 + [True] * 2
    assert strata["genome_yeast"].tolist() == [True] * 3 + [False] * 2


def test_repeats_by_the_case_follow_the_strand(experiment, data):
    masking = Masking(repeat_weight=0.1, repeats="soft_mask")
    weighted = GenomeDataModule(replace(experiment, masking=masking), data.genome)
    batch = weighted.on_before_batch_transfer(weighted.windows.batch(0, 200), 0)
    first = data.parts[1].start
    for row, (start, bases) in enumerate(zip(batch.starts, batch.bases, strict=True)):
        is_lower = [first <= base < first + 30_000 for base in range(start, start + bases)]
        wanted = is_lower[::-1] if batch.reverse[row] else is_lower
        assert batch.in_repeat_BL[row, :bases].tolist() == wanted
        assert not batch.in_repeat_BL[row, bases:].any()
    assert 0 < sum(row.any() for row in batch.in_repeat_BL) < 60
    upper = Data(genome=experiment.data.genomes[0].path, window_length=100)
    with pytest.raises(
        UserError, match=r"masking\.repeats: found soft_mask, but yeast has no soft"
    ):
        GenomeDataModule(Experiment(data=upper, masking=masking), load_genome(upper.genome))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (GenomeSource("{}/none.fa"), r"data\.genomes: .*none\.fa: "),
        (GenomeSource("{}/worm.fa", test_contigs=("9",)), r"worm\.fa: data\.test_contigs: found"),
        (GenomeSource("{}/worm.fa", validation_contigs=("1:1-50",)), "worm has no stretch of 100"),
    ],
)
def test_a_genome_that_cannot_be_used_is_named(files, experiment, source, message):
    source = GenomeSource(
        source.path.format(files),
        validation_contigs=source.validation_contigs,
        test_contigs=source.test_contigs,
    )
    data = Data(genomes=(experiment.data.genomes[0], source), window_length=100)
    with pytest.raises(UserError, match=message):
        GenomeDataModule(Experiment(data=data), load_pretraining_genome(data))
