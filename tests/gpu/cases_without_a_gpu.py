"""What a GPU would run, without one: nothing waits for it, and its graphs are few and made once.

`test_without_a_gpu.py` runs each of these in a process of its own.
"""

import os

import pytest
import torch
from helpers.encoders import tiny_config
from helpers.fake_cuda import CUDA, MODE, batch_on_gpu, module_on_gpu, move, on_a_gpu, unavailable
from helpers.graphs import Graphs
from helpers.paths import EXPERIMENTS

from cmgems.cost.memory import FLOAT, Micro, activations
from cmgems.cost.plan import estimate_windows
from cmgems.evaluation.finetuning.train import (
    Classifiers,
    FineTuneConfig,
    clip_gradients_per_model,
    loss_per_model,
)
from cmgems.inference.embedding import pool_hidden_states
from cmgems.masking.masker import MaskingPlan
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import StrategyParams
from cmgems.models.dropout import Dropout, SeededDropout
from cmgems.models.encoder import Encoder
from cmgems.models.layouts import PaddedLayout
from cmgems.runs.experiment import load

WHY_NOT = unavailable()
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    # torch's own, of how it looks at a fake tensor
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
]
RANDOM = EXPERIMENTS / "pretrain/random.yaml"
# Keys of each, and whether `make test` tries it too.
FAMILIES = {
    "logo": ([], True),
    "bert-bases": (["data.tokenization=bases"], False),
    "nt1": (["model.preset=nucleotide-transformer-v1", "data.tokenization=nonoverlapping"], False),
    "nt2": (["model.preset=nucleotide-transformer-v2", "data.tokenization=nonoverlapping"], False),
    "dnabert2": (["model.preset=dnabert2", "data.tokenization=bases"], False),
    "modern": (["model.preset=modern", "data.tokenization=bases"], True),
    "convolutions": (
        ["data.tokenization=bases", "model.attention_every_n_layers=0", "model.conv_stem=5"],
        False,
    ),
}
WHOLE = "CMGEMS_GPU_PATH" in os.environ  # make test-gpu-path
SMALL = ["model.init=bert", "model.num_layers=3", "model.hidden_size=64", "model.num_heads=4"]
SMALL += ["model.intermediate_size=64", "model.max_position_embeddings=null"]
B = 4


def experiment_of(family, *overrides):
    return load(RANDOM, [*SMALL, *FAMILIES[family][0], "data.window_length=256", *overrides])


def cases():
    for family, (_, quick) in FAMILIES.items():
        for precision in ("bf16", "32-true") if WHOLE else ("bf16",):
            if WHOLE or quick:
                yield family, precision


@pytest.mark.parametrize(("family", "precision"), cases())
def test_a_family_trains_without_waiting_and_compiles_once(family, precision):
    """Micro-batches of two numbers of tokens, accumulated, in several stages of a curriculum."""
    torch._dynamo.reset()
    names = ("random", "genemask", "global_pmi")
    if not (WHOLE or family == "logo"):
        names = names[:1]
    experiment = experiment_of(
        family,
        f"train.precision={precision}",
        f"curriculum.strategies=[{','.join(names)}]",
        f"curriculum.schedule={'linear' if len(names) > 1 else 'constant'}",
    )
    module, graphs = module_on_gpu(experiment), Graphs()
    batches = [batch_on_gpu(experiment, [n] * B) for n in (256, 64, 250, 64, 256)]
    with on_a_gpu():
        module.training_step(batches[0], 0)
    module.compile_step(backend=graphs)
    counts = []
    with on_a_gpu(compiled=True):
        for batch in batches:
            loss = module.training_step(batch, 0)
            assert (loss.device.type, loss.shape) == ("cuda", ())
            counts.append(graphs.count)
        for first in range(len(names)):
            module.plan = MaskingPlan(names[first : first + 2], 0.3)
            module.training_step(batches[0], 0)
    shapes = [module._packed_shape(batch) for batch in batches]
    encodes = batches[0].ids_BK is None
    # masks of the strategies, perhaps the ids; packing and model for each number of tokens
    wanted = [len(names) + encodes + 2 * len(set(shapes[: n + 1])) for n in range(len(shapes))]
    assert counts == wanted
    assert graphs.count == wanted[-1] <= 10


TOKENIZATIONS = ["kmers", "bases", "nonoverlapping"] if WHOLE else ["kmers"]
NAMES = tuple(STRATEGIES) if WHOLE else ("genemask", "span", "soft_pmi")


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_no_strategy_waits_and_no_ramp_compiles(tokenization):
    """All strategies at several settings: one graph each."""
    torch._dynamo.reset()
    experiment = experiment_of("logo", f"data.tokenization={tokenization}")
    module, graphs = module_on_gpu(experiment), Graphs()
    batch = batch_on_gpu(experiment, [256, 256, 100, 30])
    shape = module._packed_shape(batch)
    with on_a_gpu():
        for name in NAMES:
            module.masker(batch, name, packed_shape=shape)
    module.compile_step(backend=graphs)  # as a run does, which raises the limit of graphs
    with on_a_gpu(compiled=True):
        for level in range(4):
            for name in NAMES:
                params = StrategyParams(0.1 + level / 50, 3.0 + level, 0.1 / (level + 1))
                masked = module.masker(
                    batch, MaskingPlan((name,), params=params), packed_shape=shape
                )
                assert masked.ids_T.shape == (shape.tokens,)
                assert masked.targets_M.shape == (shape.masked,)
    assert graphs.count == len(NAMES) + 1 + (batch.ids_BK is None)


def test_fine_tuning_side_by_side_and_pooled_states_wait_for_nothing():
    """All but the draws of dropout, for which torch wants a real GPU."""
    config = tiny_config()
    model = Classifiers([Encoder(config)] * 2, FineTuneConfig("mean"), [0, 1])
    with MODE:
        move(model)
        mask_GBL = torch.zeros(2, 3, 20, dtype=torch.bool).to(CUDA)
        ids = torch.zeros(2, 60, dtype=torch.int64).to(CUDA)
        labels = torch.zeros(2, 3, dtype=torch.int64).to(CUDA)
    with on_a_gpu():
        layout = PaddedLayout.of(mask_GBL)
        states = model.encoder(ids, layout, dropout=Dropout(0.0)).unflatten(-2, (3, -1))
        reduced = model.head.reduce(states, mask_GBL)
        logits = model.head(reduced, mask_GBL, SeededDropout(0.0, [0, 1]))
        loss_G = loss_per_model(logits, labels, "binary")
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        clip_gradients_per_model(model, 1.0)
        pooled = pool_hidden_states(states[0], mask_GBL[0], "mean_max")
    assert (loss_G.shape, loss_G.device) == ((2,), CUDA)
    assert (pooled.shape, pooled.device) == ((3, 2, config.hidden_size), CUDA)


def test_what_waits_for_the_gpu_is_found():
    """The tests above can fail."""
    experiment = experiment_of("logo")
    batch = batch_on_gpu(experiment, [256])
    for look in (torch.Tensor.item, torch.Tensor.nonzero, torch.Tensor.cpu, torch.Tensor.tolist):
        with on_a_gpu(), pytest.raises((RuntimeError, AssertionError)):
            look(batch.bases_B[0])


BERT_BASE = ["model.num_layers=12", "model.hidden_size=768", "model.num_heads=12"]


# Where attention is the kernel for packed sequences: without a GPU torch computes any other by the
# formula, which keeps what no kernel does.
@pytest.mark.parametrize(
    "overrides",
    [
        ["model.num_layers=2", "model.hidden_size=256", "model.num_heads=8"],
        [*BERT_BASE, "train.micro_batch_size=64"],
        [*BERT_BASE, "data.tokenization=bases"],
        [*BERT_BASE, *FAMILIES["nt1"][0]],
    ],
    ids=["logo", "bert-base", "bert-bases", "nt1"],
)
def test_a_step_keeps_what_the_plan_says(overrides):
    """Bytes that the forward pass keeps for the backward pass, of full windows: the plan's, without
    the two tables of logits that the backward pass makes."""
    widths = ["model.intermediate_size=3072", "model.max_position_embeddings=512"]
    sizes = ["train.global_batch_size=64", "train.micro_batch_size=16", "model.init=bert"]
    experiment = load(RANDOM, [*widths, *sizes, *overrides, "train.precision=bf16"])
    module, windows = module_on_gpu(experiment), experiment.train.micro_batch_size
    batch = batch_on_gpu(experiment, [experiment.data.window_length] * windows)
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other gets its number
        return tensor

    with on_a_gpu(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module.training_step(batch, 0)
    found = sum(storage.nbytes() for number, storage in kept.items() if number not in weights)
    shape, config = module._packed_shape(batch), module.model.encoder.config
    longest = estimate_windows(experiment).max_length
    masked = shape.masked / shape.tokens
    planned = activations(config, Micro(shape.tokens, longest, masked, element=2, device="cuda"))
    planned -= 2 * FLOAT * shape.masked * config.vocab_size
    assert found == pytest.approx(planned, rel=0.1)
