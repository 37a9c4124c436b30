"""Several processes on one model: each holds a copy (DDP) or a part of its weights (FSDP)."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    Strategy,
)
from torch.distributed import TCPStore
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from cmgems.config.schema import Train
from cmgems.errors import UserError
from cmgems.training.ranks import RankLauncher

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from cmgems.models.encoder import MaskedLanguageModel

# Gradients are stored in the buckets that are summed. Buffers are functions of the genome and of
# what all processes have added up: the first need not send its own before each forward pass.
DDP: dict[str, Any] = {"gradient_as_bucket_view": True, "broadcast_buffers": False}
FULL_STATE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def strategy(train: Train) -> str | Strategy:
    """Lightning's strategy for an experiment's processes."""
    processes = train.devices * train.nodes
    if train.strategy == "fsdp":
        return FSDPStrategy(
            data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    if processes > 1:
        return WatchedDDPStrategy(**DDP)
    return "auto"


class RanksWatched(ParallelStrategy):
    """Where Lightning starts the ranks, none outlives another (`cmgems.training.ranks`)."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None  # Lightning sets it before
        processes: tuple[int, int] = (self.num_processes, self.num_nodes)  # type: ignore[attr-defined]  # of both strategies
        self._launcher = RankLauncher(self.cluster_environment, *processes)


class WatchedDDPStrategy(RanksWatched, DDPStrategy):
    """DDP."""


class FSDPStrategy(RanksWatched, ModelParallelStrategy):
    """FSDP whose checkpoints are those of any other run.

    Checkpoints are single files, written by our CheckpointIO: a run resumes from them on any number
    of processes, with either strategy, and `cmgems export` reads them. (Lightning's own strategy
    numbers the optimizer's state in the order of the module, DDP in the order of the parameter
    groups, and neither reads the other's checkpoints.)
    """

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        optimizer = getattr(optimizer, "_optimizer", optimizer)  # Lightning's wrapper
        # nested dictionaries, whose depth torch does not declare
        state: dict[str, Any] = get_optimizer_state_dict(
            self._present_model(), optimizer, options=FULL_STATE
        )
        if self.global_rank:
            return {}  # the first process saves
        index = {name: i for i, name in enumerate(self._names(optimizer))}
        groups = [
            {**group, "params": [index[name] for name in group["params"]]}
            for group in state["param_groups"]
        ]
        by_index = {index[name]: moments for name, moments in state["state"].items()}
        return {"state": dict(sorted(by_index.items())), "param_groups": groups}

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint = self.checkpoint_io.load_checkpoint(Path(checkpoint_path))
        set_model_state_dict(self._present_model(), checkpoint["state_dict"], options=FULL_STATE)
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = self._names(optimizer)
            groups = [
                {**group, "params": [names[i] for i in group["params"]]}
                for group in saved["param_groups"]
            ]
            by_name = {names[i]: moments for i, moments in saved["state"].items()}
            state: dict[str, Any] = {"state": by_name, "param_groups": groups}
            set_optimizer_state_dict(self._present_model(), optimizer, state, options=FULL_STATE)
        return checkpoint

    def _present_model(self) -> torch.nn.Module:
        assert self.model is not None  # Lightning sets it before it saves or loads a state
        return self.model

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """Names of the parameters in the order in which optimizers number them."""
        names = {parameter: name for name, parameter in self._present_model().named_parameters()}
        return [names[p] for group in optimizer.param_groups for p in group["params"]]


def shard(model: "MaskedLanguageModel", mesh: "DeviceMesh") -> None:
    """Spread the weights over the processes, layer by layer; the rest is gathered at once."""
    for layer in model.encoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: torch.nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor, of one that is spread over all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_launch(train: Train) -> None:
    """Refuse a number of processes that is not the experiment's.

    Raises
    ------
    UserError
        If torchrun or srun started another number of processes than train.devices x train.nodes.
    """
    started = started_processes()
    if started is None:
        return
    launcher, devices, nodes = started
    if (devices, nodes) != (train.devices, train.nodes):
        raise UserError(
            f"train.devices, train.nodes: found {train.devices} and {train.nodes}, but {launcher} "
            f"started {devices} processes on each of {nodes} nodes; wanted train.devices={devices} "
            f"train.nodes={nodes}"
        )


def leave_store_of_torchrun() -> None:
    """Let processes that torchrun has started again meet in a store of their own.

    torchrun keeps one store for all attempts: the processes of a new one find the addresses of the
    dead there, and wait for them or end (pytorch/pytorch issues 135712 and 167288). On several
    machines their agents need not agree on the number of the attempt; there the variable
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 of torchrun does the same.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    shares_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not shares_store or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    key = f"cmgems: port of attempt {attempt}"
    if os.environ["RANK"] == "0":
        with socket.socket() as free:
            free.bind(("", 0))
            store.set(key, str(free.getsockname()[1]))
    os.environ["MASTER_PORT"] = store.get(key).decode()
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"


def started_processes() -> tuple[str, int, int] | None:
    """(launcher, processes per node, nodes), or None if Lightning starts its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        return "torchrun", devices, int(os.environ["WORLD_SIZE"]) // devices
    # Lightning's own rule: an interactive shell in a job is not a step of that job.
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ and not interactive:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return "srun", int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None
