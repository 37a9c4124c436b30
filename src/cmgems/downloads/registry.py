"""The names that `cmgems data` knows, read from `registry.yaml`.

>>> find_dataset("hg38/chr20").files[0].url
'https://hgdownload.soe.ucsc.edu/goldenPath/hg38/chromosomes/chr20.fa.gz'
"""

import difflib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urljoin

import yaml

from cmgems.errors import UserError

ALGORITHMS = ("sha256", "md5")  # of checksums


class RemoteFile(NamedTuple):
    """A file of a publisher.

    Attributes
    ----------
    path : where it is stored, in the folder of data; of an archive, the folder that is unpacked
    url : where it comes from
    size : bytes; None where not known here
    checksum : its name (md5 or sha256) and hexadecimal digits; None where not known here
    checksums_url : the publisher's list of md5 checksums, empty for none
    """

    path: str
    url: str
    size: int | None = None
    checksum: tuple[str, str] | None = None
    checksums_url: str = ""


@dataclass(frozen=True)
class Dataset:
    """What one name stands for.

    Attributes
    ----------
    kind : `genomes` or `tasks`
    about : what it is, in a phrase
    files : tuple of RemoteFile
    unpack : whether these are zip archives
    contigs : that are published one by one, as NAME/CONTIG
    contigs_url : their folder, empty for none
    """

    name: str
    kind: str
    about: str
    files: tuple[RemoteFile, ...]
    unpack: bool = False
    contigs: tuple[str, ...] = ()
    contigs_url: str = ""
    checksums: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where that of one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(filter(None, sizes))

    def contig(self, name: str) -> "Dataset":
        """The dataset of one contig."""
        file = f"{name}.fa.gz"
        remote = RemoteFile(
            path=f"{self.name}/{file}",
            url=self.contigs_url + file,
            checksums_url=self.contigs_url + self.checksums,
        )
        about = f"{name} of {self.about}"
        return replace(self, name=f"{self.name}/{name}", about=about, files=(remote,), contigs=())


def read_registry(text: str) -> dict[str, Dataset]:
    """The datasets of `registry.yaml`, by name; the file says what its keys mean."""
    return {
        name: _dataset(kind, name, fields)
        for kind, group in yaml.safe_load(text).items()
        for name, fields in group.items()
    }


def _dataset(kind: str, name: str, fields: dict[str, Any]) -> Dataset:
    remote = [_file(path, known, fields, name) for path, known in fields["files"].items()]
    keys = ("unpack", "contigs_url", "checksums")
    return Dataset(
        name=name,
        kind=kind,
        about=fields["about"],
        files=tuple(remote),
        contigs=tuple(fields.get("contigs", ())),
        **{key: fields[key] for key in keys if key in fields},
    )


def _file(path: str, known: dict[str, Any], fields: dict[str, Any], name: str) -> RemoteFile:
    checksums = fields.get("checksums", "")
    return RemoteFile(
        path=f"{fields.get('folder', name)}/{path}",
        url=urljoin(fields["url"], known.get("url", path + fields.get("suffix", ""))),
        size=known.get("size"),
        checksum=next(((kind, known[kind]) for kind in ALGORITHMS if kind in known), None),
        checksums_url=urljoin(fields["url"], checksums) if checksums else "",
    )


@cache
def datasets() -> dict[str, Dataset]:
    """All datasets by name; contigs are found by `find_dataset` alone."""
    return read_registry((files(__package__) / "registry.yaml").read_text(encoding="utf-8"))


def find_dataset(name: str) -> Dataset:
    """The dataset of a name, or of one contig: `hg38/chr20`.

    Raises
    ------
    UserError
        If there is none.
    """
    known = datasets()
    if name in known:
        return known[name]
    genome, _, contig = name.partition("/")
    if contig and genome in known and known[genome].kind == "genomes":
        if contig in known[genome].contigs:
            return known[genome].contig(contig)
        contigs = ", ".join(known[genome].contigs)
        single = f", or one of its contigs {contigs}" if contigs else ", which is one file"
        raise UserError(f"{name}: no such data, wanted {genome}{single}")
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise UserError(f"{name}: no such data, wanted one of {', '.join(close or known)}")


def is_genome(name: str) -> bool:
    """Whether a name is that of a genome, or of one of its contigs."""
    genome, _, contig = name.partition("/")
    found = datasets().get(genome)
    return found is not None and found.kind == "genomes" and (not contig or contig in found.contigs)
