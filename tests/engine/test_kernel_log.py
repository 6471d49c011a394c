"""What the kernels log reaches the people who run a command."""

import json
import logging
import sys

import pytest

from sto_engine.console import JsonLinesProgress, kernel_log


def test_what_the_kernels_log_is_shown_as_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with kernel_log(JsonLinesProgress(sys.stderr)):
        logging.getLogger("sto_kernels").info("compiling for %s", "a processor")
        logging.getLogger("sto_kernels").warning("slow")
    logging.getLogger("sto_kernels").warning("after the command")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = [(line["level"], line["message"]) for line in lines]
    assert told == [("info", "compiling for a processor"), ("warning", "slow")]
