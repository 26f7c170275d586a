"""The page of formats and architectures is what the registries say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastsr import archs, importers
from fastsr.cli import formats, main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


def test_the_page_is_up_to_date() -> None:
    """Write it again with: fastsr formats --markdown > docs/formats.md"""
    assert PAGE.read_text(encoding="utf-8") == formats.markdown(formats.registries())


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    text = capsys.readouterr().out
    assert all(f.NAME in text for f in importers.FORMATS) and all(a.NAME in text for a in archs.ARCHS)
    assert main(["formats", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["architectures"]) == len(archs.ARCHS)


def test_every_format_says_what_it_is() -> None:
    for f in importers.FORMATS:
        assert f.NAME and f.__doc__ and all(s.startswith(".") for s in f.SUFFIXES)
