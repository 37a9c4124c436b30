"""The experiment files that come with the package, found by their names."""

from importlib import resources
from pathlib import Path

from cmgems.errors import UserError

KINDS = ("pretrain", "sweep", "finetune")  # folders of experiments/
FILE_OR_NAME = "a YAML file, or a name that `cmgems experiments list` shows"  # in a command's help


def shipped_experiments() -> dict[str, Path]:
    """Every experiment file of the package by its name, such as `pretrain/quickstart`."""
    folder = Path(str(resources.files("cmgems.experiments")))
    files = [path for kind in KINDS for path in sorted((folder / kind).glob("*.yaml"))]
    return {f"{path.parent.name}/{path.stem}": path for path in files}


def experiment_file(name: str | Path, kind: str) -> Path:
    """The file that a user means.

    Parameters
    ----------
    name : str or Path
        A path, or the name of an experiment that comes with the package: `quickstart`,
        `pretrain/quickstart`. A name has no suffix; a file of that path comes first.
    kind : {"pretrain", "sweep", "finetune"}
        Where a name without a folder is looked up.

    Raises
    ------
    UserError
        If there is neither such a file nor such an experiment.
    """
    path = Path(name)
    if path.suffix or path.exists():
        return path
    shipped = shipped_experiments()
    found = shipped.get(str(name)) or shipped.get(f"{kind}/{name}")
    if found is None:
        raise UserError(f"{name}: no such file or experiment, wanted {FILE_OR_NAME}")
    return found
