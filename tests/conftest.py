"""Settings of all tests."""

# Imported before any test runs: pytest's Hypothesis plugin would import it in the summary of a failed run, where
# CPython 3.11 may trip over the stack of a greenlet and lose the summary.
import hypothesis  # noqa: F401
