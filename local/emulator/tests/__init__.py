"""Tests of the patches. Each module starts an emulator of its own; `harness.py` says how."""
