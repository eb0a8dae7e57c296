from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from googlenet_deploy.export.quiet import Captured, silenced


def test_everything_is_caught_and_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced() as captured:
        print("from print")
        print("from stderr", file=sys.stderr)
        os.write(1, b"from C\n")
        os.write(2, b"from C's stderr\n")
        warnings.warn("a warning", stacklevel=1)
        logging.getLogger("somebody").warning("a log line")
    assert capfd.readouterr() == ("", "")
    for text in ("from print", "from stderr", "from C\n", "from C's stderr"):
        assert text in captured.output
    assert "a warning" not in captured.output
    print("heard again")
    assert capfd.readouterr().out == "heard again\n"


def test_output_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    captured = Captured()

    def interrupted() -> None:
        nonlocal captured
        with silenced() as captured:
            print("one\n\ntwo\nthree\nfour")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert captured.last_lines() == "two; three; four"
    os.write(1, b"heard\n")
    assert capfd.readouterr().out == "heard\n"
