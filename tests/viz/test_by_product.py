"""Pictures that cannot be written: one warning, and all else goes on."""

import logging

import numpy as np
import pytest

from vos_umec.errors import ConfigError
from vos_umec.viz.by_product import ByProduct
from vos_umec.viz.horizon_plot import save_horizon_plot
from vos_umec.viz.sheets import save_picture


def test_a_picture_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with ByProduct("a.png"):
        save_picture(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), np.uint8))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no a.png: " in record.getMessage()


def test_mistakes_of_the_program_are_not_hidden():
    with pytest.raises(KeyError), ByProduct("a.png"):
        raise KeyError
    with ByProduct("a.png"):
        raise ConfigError("wrong")


def test_a_plot_that_cannot_be_written_is_none(tmp_path, caplog):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("in the way")
    figures = {"J": {"a": [1.0, 2.0]}}
    assert save_horizon_plot(tmp_path / "file/x.png", ["1", "2"], 2, figures, {"J": {}}, "a") is None
    assert "x.png" in caplog.text
