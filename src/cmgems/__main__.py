import sys

from cmgems.cli import main

sys.exit(main())
