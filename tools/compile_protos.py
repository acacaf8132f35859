"""Generates the Python modules of the .proto files, beside them.

`--check` writes nothing, and fails if the committed ones differ. `--google DIR` only copies Google's .proto files
there, for tools that know nothing of wheels.
"""

import argparse
import difflib
import importlib.util
import itertools
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent.parent / "protos"
GENERATED = "quotafleet/**/*_pb2*.py*"  # .py and .pyi
MAX_DIFF_LINES = 20  # of each file: a generated file says little
GOOGLE_PACKAGES = ("google/type", "google/rpc")


class CompileError(Exception):
    """The .proto files cannot be compiled."""


def google_includes() -> Path:
    """Return the folder below which the wheel googleapis-common-protos keeps google/type and google/rpc."""
    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        raise CompileError("googleapis-common-protos is not installed")
    return Path(next(iter(spec.submodule_search_locations))).parent.parent


def compile_into(out: Path) -> None:
    """Compile all our .proto files; the outputs lie in `out` as the sources lie in protos/."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("quotafleet/**/*.proto"))
    if not sources:
        return
    includes = (PROTOS, Path(grpc_tools.__file__).parent / "_proto", google_includes())
    plugins = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        *(f"-I{path}" for path in includes),
        *(f"--plugin={name}={Path(sys.executable).parent / name}" for name in plugins),
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise CompileError("protoc failed, see above")


def committed() -> dict[str, str]:
    """Return the generated files that lie in protos/ now: relative path to content."""
    return read_generated(PROTOS)


def fresh() -> dict[str, str]:
    """Return what the sources generate now, in the same form."""
    with tempfile.TemporaryDirectory() as folder:
        compile_into(Path(folder))
        return read_generated(Path(folder))


def read_generated(root: Path) -> dict[str, str]:
    """Return the generated files below `root`."""
    paths = sorted(path for path in root.glob(GENERATED) if path.suffix != ".pyc")
    return {str(path.relative_to(root)): path.read_text() for path in paths}


def differences() -> list[str]:
    """Say, line by line, how the files in protos/ differ from what their sources generate now."""
    old, new = committed(), fresh()
    lines = [f"protos/{name}: missing" for name in sorted(new.keys() - old.keys())]
    lines += [f"protos/{name}: has no source any more" for name in sorted(old.keys() - new.keys())]
    for name in sorted(old.keys() & new.keys()):
        texts = old[name].splitlines(), new[name].splitlines()
        diff = difflib.unified_diff(*texts, f"protos/{name}", "generated now", lineterm="", n=0)
        lines += itertools.islice(diff, MAX_DIFF_LINES)
    return lines


def write() -> None:
    """Generate into protos/, and remove what no longer has a source."""
    new = fresh()
    for name in committed().keys() - new.keys():
        (PROTOS / name).unlink()
    for name, content in new.items():
        (PROTOS / name).write_text(content)


def copy_google(target: Path) -> None:
    """Copy the .proto files of Google's packages that ours may import."""
    for package in GOOGLE_PACKAGES:
        (target / package).mkdir(parents=True, exist_ok=True)
        for source in (google_includes() / package).glob("*.proto"):
            shutil.copy(source, target / package)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python modules of the .proto files.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="only compare, and fail on a difference")
    choice.add_argument("--google", type=Path, metavar="DIR", help="only copy Google's .proto files there")
    options = parser.parse_args()
    try:
        if options.google:
            copy_google(options.google)
        elif options.check:
            if lines := differences():
                print(*lines, "", "Generated code is out of date: run `make protos`.", sep="\n")
                return 1
        else:
            write()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
