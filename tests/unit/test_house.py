"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

# Put together here, so that this file passes its own test.
REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("static", "crates", "io"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
    )
]


def own_files() -> list[Path]:
    """Return the files of the tree that git has or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def modules() -> Iterator[tuple[str, str]]:
    """Yield (path, source) of each Python file that a person wrote; migrations are history, never edited."""
    for path in own_files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and "_pb2" not in path.name and "/migrations/" not in name:
            yield name, path.read_text()


def test_files_stay_short() -> None:
    """It is files that drift."""
    lengths = {name: len(source.splitlines()) for name, source in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    """A function fits on a screen."""
    lengths = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, source in modules()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    """A module, a package included, begins with a docstring."""
    assert [name for name, source in modules() if not ast.get_docstring(ast.parse(source))] == []


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    named = []
    for path in own_files():
        text = path.read_text(errors="replace").lower()
        named += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert named == []


def test_generated_code_is_up_to_date() -> None:
    """The committed modules are what the .proto files generate."""
    command = [sys.executable, "-m", "tools.compile_protos", "--check"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
