"""Results for continuous integration: JUnit XML, and the summary of a GitHub step."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgeq.cli import common

junit = click.option("--junit", metavar="FILE", type=common.PATH, help="Write the checks as JUnit XML.")
github = click.option("--github", is_flag=True, help="Add Markdown to the file that GITHUB_STEP_SUMMARY names.")


def write(path: Path, text: str) -> None:
    """Write a document whole."""
    from edgeq import store

    store.write_bytes(path, text.encode())


def summarize(text: str) -> None:
    """Add Markdown to the step's summary; outside of GitHub there is none, and that is said."""
    from edgeq import store

    told = os.environ.get("GITHUB_STEP_SUMMARY")
    if not told:
        common.say("GITHUB_STEP_SUMMARY is not set: no summary was written", quiet=False)
        return
    path = Path(told)
    with store.writing(path), path.open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")
