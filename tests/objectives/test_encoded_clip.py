import re

import pytest
import torch
from objective_toys import PooledEncoder

from vos_umec.errors import ConfigError
from vos_umec.objectives.base import CorrespondenceObjective, EncodedClip


class CountingEncoder(PooledEncoder):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_frames_are_encoded_once_and_only_when_asked():
    E = CountingEncoder()
    frames = torch.rand(2, 3, 3, 16, 24)
    clip = EncodedClip(E, frames, torch.arange(3).expand(2, 3))
    assert E.calls == 0
    keys = clip.keys
    assert keys.shape == (2, 3, 16, 4, 6)
    assert clip.features.key.shape == (6, 16, 4, 6)
    assert E.calls == 1
    torch.testing.assert_close(keys[1, 2], E(frames[1, 2:]).key[0])


@pytest.mark.parametrize(
    ("frames", "indices"), [((2, 3, 3, 8, 8), (2, 2)), ((6, 3, 8, 8), (2, 3)), ((2, 3, 1, 8, 8), (2, 3))]
)
def test_shapes_that_do_not_fit_are_refused(frames, indices):
    with pytest.raises(ConfigError, match=re.escape(f"{frames} and frame indices {indices}")):
        EncodedClip(PooledEncoder(), torch.rand(frames), torch.zeros(indices, dtype=torch.long))


def test_an_objective_must_say_its_loss():
    with pytest.raises(TypeError):
        CorrespondenceObjective()
