"""A processor is believed until a trial has died of it."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from bianque.nn import processor

ILLEGAL = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
FAILING = "raise SystemExit(1)"


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.setenv(processor.SETTING, "")
    monkeypatch.delenv(processor.SETTING)
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n")
    return file


def test_a_trial_that_dies_of_its_instructions_keeps_them_away(flags):
    processor.check(flags, ILLEGAL)
    assert os.environ[processor.SETTING] == "AVX512_CORE_FP16"


@pytest.mark.parametrize("trial", ["pass", FAILING])
def test_one_that_ends_otherwise_changes_nothing(flags, trial):
    processor.check(flags, trial)
    assert processor.SETTING not in os.environ


@pytest.mark.parametrize("text", ["flags : fpu avx512_bf16", "flags : amx_bf16_of_another_kind", ""])
def test_no_tiles_no_trial(flags, text):
    flags.write_text(text)
    processor.check(flags, ILLEGAL)
    assert processor.SETTING not in os.environ


def test_a_system_that_does_not_tell(flags):
    processor.check(flags.with_name("none"), ILLEGAL)
    assert processor.SETTING not in os.environ


def test_what_the_owner_set_stays(flags, monkeypatch):
    monkeypatch.setenv(processor.SETTING, "AVX2")
    processor.check(flags, ILLEGAL)
    assert os.environ[processor.SETTING] == "AVX2"


def test_this_machine_multiplies_bfloat16():
    """Whatever it claims: the trial itself, in a process that was checked."""
    processor.check()
    exec(processor.TRIAL)


@pytest.mark.parametrize(
    "machine, instructions, supported, expected",
    [("x86_64", True, True, True), ("AMD64", False, True, False), ("aarch64", False, True, True), ("arm64", False, False, False)],
)  # fmt: skip
def test_bfloat16_is_there_if_its_instructions_are(machine, instructions, supported, expected, monkeypatch, caplog):
    """oneDNN supports it wherever x86 has AVX-512. Where they are not, that is said."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert processor.bfloat16.__wrapped__() == expected
    assert ("float32" in caplog.text) != expected
