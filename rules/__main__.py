"""`python -m rules judge CASES.jsonl`: judges cases, one a line, and answers one line a case."""

from __future__ import annotations

import gzip
import sys
from typing import Any, Final

from rules.cases import CaseInvalid, judge_lines

_USAGE: Final = "usage: python -m rules judge CASES.jsonl[.gz] (- for standard input)"
_BAD_USAGE: Final = 2


def main(arguments: list[str]) -> int:
    """Exit code: 0 all cases are answered, 2 bad usage or a line that is no case."""
    if len(arguments) != 2 or arguments[0] != "judge":
        print(_USAGE, file=sys.stderr)
        return _BAD_USAGE
    path = arguments[1]
    try:
        if path == "-":
            return _judge(sys.stdin)
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
            return _judge(lines)
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads any more, and nobody is to hear of it
        return 0
    except (OSError, EOFError, UnicodeDecodeError) as error:
        print(f"error: {path} cannot be read: {error}", file=sys.stderr)
    except CaseInvalid as error:
        print(f"error: {path}: {error}", file=sys.stderr)
    return _BAD_USAGE


def _judge(lines: Any) -> int:
    for answered in judge_lines(lines):
        print(answered)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
