"""The table of hardware: computed from the cards, and what the README shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bianque.catalog import default
from bianque.catalog.builtin import CARDS, by_name
from bianque.catalog.footprint import RESERVE
from bianque.cli import hardware
from bianque.cli.hardware import HARDWARE, Hardware
from tests import tiny

README = Path(__file__).parent.parent.parent / "README.md"
CARD = tiny.changed(
    by_name()["bianque-2"], parameters=11_000, kept=900, head=100, cache=1, window=100
)  # 22,000, 11,900, 7,212 bytes


@pytest.mark.parametrize("room, bits", [(22_100, 16), (22_099, 8), (12_000, 8), (11_999, 4), (7_312, 4), (7_311, None)])
def test_the_most_bits_with_which_weights_and_a_conversation_fit(room, bits):
    assert hardware.best([CARD], Hardware("X", (room + 0.5) / 1e9 / (1 - RESERVE))) == bits


def test_a_pair_must_fit_at_once():
    assert hardware.best([CARD, CARD], Hardware("X", (2 * 22_100 + 0.5) / 1e9 / (1 - RESERVE))) == 16
    assert hardware.best([CARD, CARD], Hardware("X", (2 * 22_100 - 1) / 1e9 / (1 - RESERVE))) == 8


def test_what_is_published_quantised_stays_so_and_some_hardware_quantises_nothing():
    assert hardware.best([tiny.changed(CARD, stored=8)], HARDWARE[-2]) == 8
    assert hardware.best([CARD], Hardware("X", 15_000 / 1e9, quantises=False)) is None


def test_bianque_2_fits_a_t4_in_8_bits_and_the_readme_shows_the_table():
    named = by_name()
    table = hardware.hardware_table(CARDS, [named[name] for name in default.HUB])
    assert hardware.best([named["bianque-2"]], next(h for h in HARDWARE if h.name == "T4")) == 8
    assert table in README.read_text(encoding="utf-8")
