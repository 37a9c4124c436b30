"""Where things are in the checkout, and how many damaged inputs a test tries."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
# damaged inputs; each test takes its share
CASES = int(os.environ.get("CMGEMS_FAULTS", "2000"))
# a folder with FASTA files of whole chromosomes (`make test-chromosomes`); "": DNA that tests make
CHROMOSOMES = os.environ.get("CMGEMS_CHROMOSOMES", "")
