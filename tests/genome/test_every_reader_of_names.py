"""One rule for the names of contigs, wherever coordinates are read: each reader finds the same
bases by each name, and says in one line that a file is of another assembly."""

import numpy as np
import pytest
from helpers.encoders import tiny_language_model
from helpers.genome_files import build

from cmgems.cli import main
from cmgems.config.schema import Data
from cmgems.data_modules.split import split_genome
from cmgems.errors import UserError
from cmgems.evaluation.prediction.inputs import interval_input, region_input
from cmgems.genome.annotation.variants import Variant
from cmgems.genome.genome import open_genome
from cmgems.genome.region import parse_region
from cmgems.inference.variants import ScoreOptions, score_variants
from cmgems.inspection.inspect import find_region
from cmgems.tasks.site_windows import WindowShape, place_windows
from cmgems.tokenization import OverlappingKmers

NAMES = ("20", "chr20", "NC_000020.10")
START, END = 100, 140  # of an interval, from 0


@pytest.fixture(scope="module", params=NAMES)
def genome(request, tmp_path_factory):
    letters = "".join(np.random.default_rng(0).choice([*"ACGT"], 600))
    text = f">first\n{letters[:200]}\n>{request.param}\n{letters[200:]}\n"
    return build(tmp_path_factory.mktemp("genome"), text.encode())


@pytest.mark.parametrize("name", NAMES)
def test_each_reader_finds_the_same_bases(genome, name, tmp_path):
    bed = tmp_path / "a.bed"
    bed.write_text(f"{name}\t{START}\t{END}\n")
    at = genome.contigs[1].start + START
    wanted, region = genome.codes[at : at + END - START].tolist(), f"{name}:{START + 1}-{END}"

    only = split_genome(Data(regions=(str(bed),), validation_contigs=("first",)), genome)
    assert [part.tolist() for part in only.training] == [[at], [at + 40]]
    rest = split_genome(Data(exclude=(str(bed),), validation_contigs=("first",)), genome)
    assert [part.tolist() for part in rest.training] == [[201, at + 40], [at, 601]]
    held_out = split_genome(Data(validation_contigs=(region,), test_contigs=("first",)), genome)
    assert [part.tolist() for part in held_out.validation] == [[at], [at + 40]]
    assert [part.tolist() for part in held_out.training] == [[201, at + 40], [at, 601]]
    tested = split_genome(Data(test_contigs=(name,), validation_fraction=0.5), genome)
    assert max(*tested.training.end, *tested.validation.end) == 200

    assert place_windows(genome, "a.bed", WindowShape(40), tmp_path).start.tolist() == [at]
    (item,) = interval_input(genome, str(bed), 0, "middle").items
    assert (item.why, item.codes.tolist()) == ("", wanted)
    (item,) = region_input(genome, parse_region(genome, region), 40, 40, "+").items
    assert (item.codes.tolist(), item.place) == (wanted, (name, START, END))
    assert find_region(genome, region, OverlappingKmers(3)).codes(genome).tolist() == wanted

    letter = "ATCG"[wanted[0]]
    variant = Variant(name, START + 1, "", letter, "ATCG"[wanted[0] ^ 1], "")
    (score,) = score_variants(
        tiny_language_model(), OverlappingKmers(3), genome, [variant], ScoreOptions(window=20)
    )
    assert score.why == ""

    source = genome.path.parent / "g.fa"
    out = tmp_path / "masked"
    assert main(["genome", str(source), "--out", str(out), "--repeats", str(bed)]) == 0
    assert open_genome(out).soft_mask(at, at + 41).tolist() == [True] * 40 + [False]


def test_a_file_of_another_assembly_is_refused_in_one_line(genome, tmp_path, capsys):
    bed = tmp_path / "a.bed"
    is_accession = genome.contigs[1].name == NAMES[2]  # of GRCh37
    bed.write_text("NC_000020.11\t5\t9\nI\t5\t9\n" if is_accession else "I\t5\t9\n")
    source, out = genome.path.parent / "g.fa", tmp_path / "masked"
    first = bed.read_text().split("\t")[0]
    wanted = (
        f"are on contigs that it has not, the first is on {first}; wanted some in g, which has "
        f"first, {genome.contigs[1].name}: another assembly?"
    )
    for data in (Data(regions=(str(bed),)), Data(exclude=(str(bed),))):
        with pytest.raises(UserError) as refused:
            split_genome(data, genome)
        assert str(refused.value).endswith(wanted)
        assert "\n" not in str(refused.value)
    assert main(["genome", str(source), "--out", str(out), "--repeats", str(bed)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(wanted)
    for key in ("validation_contigs", "test_contigs"):
        with pytest.raises(
            UserError, match=rf"^data\.{key}: I:1-9 is not in g, which has first \("
        ):
            split_genome(Data(**{key: ("I:1-9",)}), genome)
