"""The DNA that a model was pretrained on, for the leakage check."""

import pytest

from cmgems.errors import UserError
from cmgems.evaluation.leakage import pretraining_dna


def test_a_genome_that_has_moved_is_named_with_its_model(tmp_path):
    assert pretraining_dna(tmp_path) is None
    (tmp_path / "config.yaml").write_text("data:\n  genome: moved/genome.fa\n")
    with pytest.raises(UserError, match=r"the DNA of .* moved/genome\.fa: does not exist"):
        pretraining_dna(tmp_path)
