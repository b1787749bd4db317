import pytest
import torch.distributed as dist

from vos_umec.data import shared_folder
from vos_umec.data.shared_folder import all_or_none, sharing_ranks
from vos_umec.errors import DataError, VosUmecError


@pytest.fixture
def as_rank_0_of_2(monkeypatch):
    """What the two ranks pass to `gather_objects`, told one after another; None is for this rank's own value."""

    def tell(*answers):
        told = iter(answers)
        monkeypatch.setattr(
            shared_folder, "gather_objects", lambda own: [own if value is None else value for value in next(told)]
        )
        monkeypatch.setattr(dist, "get_rank", lambda: 0)

    return tell


def test_alone_a_step_fails_with_its_own_error():
    with pytest.raises(ZeroDivisionError), all_or_none("divide"):
        _ = 1 / 0


def test_a_failure_elsewhere_is_raised_here(as_rank_0_of_2):
    as_rank_0_of_2((None, "OSError: no space left"))
    error = "rank 1 failed to write its masks: OSError: no space left"
    with pytest.raises(VosUmecError, match=error), all_or_none("write its masks"):
        pass


def test_a_rank_on_another_disk_is_not_waited_for_long(as_rank_0_of_2, tmp_path):
    as_rank_0_of_2((None, "other"), (None, None), ([0], [1]))
    assert sharing_ranks(tmp_path / "masks", patience=0.1) == [0]
    assert list((tmp_path / "masks").iterdir()) == []


def test_a_file_that_shows_late_is_waited_for(as_rank_0_of_2, tmp_path):
    (tmp_path / ".rank_other").touch()
    as_rank_0_of_2((None, "other"), (None, None), ([0, 1], [0, 1]))
    assert sharing_ranks(tmp_path) == [0, 1]


def test_ranks_that_disagree_end_together(as_rank_0_of_2, tmp_path):
    (tmp_path / ".rank_other").touch()
    as_rank_0_of_2((None, "other"), (None, None), ([0, 1], [1]))
    with pytest.raises(DataError, match=r"disagree.*\[\[0, 1\], \[1\]\].*shared disk"):
        sharing_ranks(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_on_all_ranks(as_rank_0_of_2, tmp_path):
    as_rank_0_of_2((None, "other"), (None, "PermissionError: [Errno 13]"))
    with pytest.raises(VosUmecError, match=r"rank 1 failed to write into .*Permission"):
        sharing_ranks(tmp_path)
