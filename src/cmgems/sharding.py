"""Several processes on one model: a copy each (DDP), or a share each of its weights (FSDP)."""

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch.distributed.fsdp import fully_shard

from cmgems.config import Train

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from cmgems.encoder import MaskedLanguageModel


def strategy(train: Train) -> str | Strategy:
    """Lightning's strategy for an experiment's processes."""
    processes = train.devices * train.nodes
    if train.strategy == "fsdp":
        # Checkpoints are whole files, like those of any other run: they resume on any number of
        # processes and strategy, and are what `cmgems export` reads.
        return ModelParallelStrategy(
            data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return "ddp" if processes > 1 else "auto"


def shard(model: "MaskedLanguageModel", mesh: "DeviceMesh") -> None:
    """Spread the weights over the processes, layer by layer; the rest is gathered as a whole."""
    for layer in model.encoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: torch.nn.Module) -> bool:
    return any(isinstance(p, torch.distributed.tensor.DTensor) for p in model.parameters())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that all processes hold a share of, as one."""
    return tensor.full_tensor() if isinstance(tensor, torch.distributed.tensor.DTensor) else tensor
