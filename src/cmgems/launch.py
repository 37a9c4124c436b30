"""Who starts the processes of a run: Lightning itself, torchrun, or Slurm's srun.

Lightning finds out which; here is checked that the number they start is the one that the experiment
says, since the batch is divided by it.
"""

import os

from cmgems.config.schema import Train
from cmgems.errors import UserError


def check_launch(train: Train) -> None:
    """Refuse processes that the experiment does not count on.

    Raises
    ------
    UserError
        If torchrun or srun started another number of processes than train.devices x train.nodes.
    """
    started = started_processes()
    if started is None:
        return
    by, devices, nodes = started
    if (devices, nodes) != (train.devices, train.nodes):
        raise UserError(
            f"train.devices, train.nodes: found {train.devices} and {train.nodes}, but {by} "
            f"started {devices} processes on each of {nodes} nodes; wanted train.devices={devices} "
            f"train.nodes={nodes}"
        )


def started_processes() -> tuple[str, int, int] | None:
    """(launcher, processes on a node, nodes), or None if Lightning starts its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        return "torchrun", devices, int(os.environ["WORLD_SIZE"]) // devices
    # What Lightning goes by: an interactive shell in a job is not a step of it.
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ and not interactive:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return "srun", int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None
