"""Graphs of the training step: they compute what the step does, and none is made amid a run."""

import pytest
import torch
from helpers.graphs import Graphs

from cmgems.config.encoders import Model
from cmgems.config.schema import Curriculum, Experiment
from cmgems.data_modules.sampling import GenomeShare, WindowSampling
from cmgems.data_modules.windows import WindowStream
from cmgems.genome.spans import unambiguous_spans
from cmgems.masking.masker import Masker, MaskingPlan
from cmgems.masking.rates import CenterRates
from cmgems.masking.types import StrategyParams
from cmgems.tokenization import OverlappingKmers
from cmgems.training.module import Pretraining

MAX_LENGTH = 128 - 6 + 3
KMERS = OverlappingKmers(6)
TINY = Model(hidden_size=32, num_heads=2, intermediate_size=64)


@pytest.fixture(scope="module")
def center_rates(human_ids, human_rank):
    return CenterRates(human_ids[:, :123], human_rank, KMERS)


@pytest.fixture(scope="module")
def windows(genome):
    return WindowStream(
        genome.codes,
        [GenomeShare(unambiguous_spans(genome.codes))],
        WindowSampling(128, 6, 0.5),
        seed=3,
    )


@pytest.fixture
def module(request, center_rates):
    """Of the strategies that the test names."""
    torch._dynamo.reset()
    experiment = Experiment(
        model=TINY, curriculum=Curriculum(schedule="linear", strategies=request.param)
    )
    module = Pretraining(experiment, Masker(KMERS, center_rates.ranks.pmi_V, center_rates))
    module.packed_shapes = module.packed_shapes._replace(max_length=MAX_LENGTH)
    return module


def shape_of(module, batch):
    return module.packed_shapes.packed_shape(batch.content_tokens(KMERS))


@pytest.mark.parametrize("module", [("genemask", "random")], indirect=True)
def test_nothing_is_recompiled_when_the_stage_changes(module, windows):
    """All graphs are there after the first step of each number of tokens, whatever comes then."""
    names = module.experiment.curriculum.strategies
    graphs = Graphs()
    module.compile_step(backend=graphs)
    batches = [windows.batch(first, 4) for first in range(0, 160, 4)]
    shapes = sorted({shape_of(module, batch) for batch in batches})[-2:]
    batches = [batch for batch in batches if shape_of(module, batch) in shapes]
    packed_shapes = [shape_of(module, batch) for batch in batches]
    firsts = [packed_shapes.index(packed_shape) for packed_shape in shapes]
    for number in firsts:
        module.training_step(batches[number], number).backward()
    compiled = graphs.count
    # masks of two strategies, ids; packing and model for each number of tokens
    assert compiled == 3 + 2 * len(firsts)
    for number, batch in enumerate(batches):
        stage = number * len(names) // len(batches)
        params = StrategyParams(mask_ratio=0.15 - number / 1000)
        module.plan = MaskingPlan(names[stage : stage + 1], params=params)
        module.training_step(batch, number).backward()
    module.plan = MaskingPlan(names[:2], 0.3)  # mixed by sequence
    module.training_step(batches[0], 0).backward()
    assert graphs.count == compiled


@pytest.mark.parametrize("module", [("span", "soft_pmi")], indirect=True)
def test_a_ramp_compiles_nothing(module, windows, monkeypatch):
    """Whatever the span width and the temperature, the graphs of the first step are enough."""
    names = module.experiment.curriculum.strategies
    some_rates = torch.full((MAX_LENGTH - 1,), 0.02)  # solving those of each level takes seconds
    monkeypatch.setattr(module.masker.center_rates, "rates", lambda *_: some_rates)
    graphs, batch = Graphs(), windows.batch(0, 4)
    module.compile_step(backend=graphs)
    module.training_step(batch, 0)
    assert graphs.count == 5  # masks of two strategies, ids, packing and model
    masked = {name: set() for name in names}
    for level in range(20):
        params = StrategyParams(span_width=2.0 + level, temperature=0.01 * 1.5**level)
        for name in names:
            module.plan = MaskingPlan((name,), params=params)
            compiled = module.masker(batch, module.plan, packed_shape=shape_of(module, batch))
            assert torch.equal(compiled.mask_BK, module.masker(batch, module.plan).mask_BK)
            masked[name].add(compiled.mask_BK.numpy().tobytes())
    assert graphs.count == 5
    assert min(len(masks) for masks in masked.values()) > 5


@pytest.mark.parametrize("module", [("genemask", "soft_pmi")], indirect=True)
def test_a_validation_compiles_nothing(module, windows):
    """Its batches are all of another shape: they go through the parts without graphs."""
    graphs = Graphs()
    module.compile_step(backend=graphs)
    module.training_step(windows.batch(0, 4), 0)
    compiled = graphs.count
    for name in module.experiment.curriculum.strategies:
        module.plan = MaskingPlan((name,))
        for number in range(6):
            batch = windows.batch(8 * number, 3 + number)
            module.validation_step(batch._replace(codes_BL=batch.codes_BL[:, : batch.bases[0]]), 0)
    assert module.metrics.validation_metric("soft_pmi").masked > 0
    assert graphs.count == compiled


def test_a_compiled_step_is_the_step(center_rates, windows):
    """Loss and gradients of the graphs (without a code generator) are those of the kernels."""
    torch._dynamo.reset()
    plain, compiled = (
        Pretraining(Experiment(model=TINY), Masker(KMERS, center_rates.ranks.pmi_V, center_rates))
        for _ in range(2)
    )
    plain.packed_shapes = compiled.packed_shapes = plain.packed_shapes._replace(
        max_length=MAX_LENGTH
    )
    compiled.compile_step(backend="aot_eager")
    losses = []
    for module in (plain, compiled):
        loss = module.training_step(windows.batch(0, 4), 0)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for (name, one), other in zip(
        plain.model.named_parameters(), compiled.model.parameters(), strict=True
    ):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6), name
