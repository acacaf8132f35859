"""`python -m tests.fuzz`: see docs/fuzzing.md."""

import sys

from tests.fuzz.command import main

sys.exit(main(sys.argv[1:]))
