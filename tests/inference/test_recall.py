import pytest
import torch
import torch.nn.functional as F

from vos_umec.inference.memory import ReferenceMemory, read_memory
from vos_umec.inference.refinement import Window
from vos_umec.matching.topk import top_k_affinity

h, w, D, Dv = 7, 9, 4, 5


def remember(memory, K, anchor):
    memory.add(F.normalize(torch.randn(h, w, D), dim=-1), torch.rand(h, w, K) / K, torch.randn(h, w, K, Dv), anchor)


@pytest.mark.parametrize("late", [False, True])
def test_each_object_is_the_dense_product_over_the_references_that_know_it(late):
    torch.manual_seed(0)
    memory = ReferenceMemory(references=3)
    for t in range(6):
        remember(memory, 1 if late and t < 3 else 3, anchor=t in (0, 3))
    key = F.normalize(torch.randn(h, w, D), dim=-1)
    found = read_memory(memory, key, top_k=4, tau=0.1, radius=3, permanent_radius=None)
    assert [objects for objects, _ in found.parts] == ([[1, 2], [0]] if late else [[0, 1, 2]])
    said = []
    for k in range(3):
        knows = memory.known[:, k].nonzero()[:, 0]
        best = top_k_affinity(key, memory.keys[knows], int((knows < 2).sum()), 4, 0.1, 3, None)
        A = torch.zeros(h * w, len(knows) * h * w).scatter_add(1, best.index, best.weight)
        V_q = (A @ memory.values[knows][..., k, :].reshape(-1, Dv)).view(h, w, Dv).permute(2, 0, 1)
        Ybar = (A @ memory.masks[knows][..., k].flatten()).view(h, w)
        said.append(Ybar)
        anchors = knows[knows < 2]
        best = top_k_affinity(key, memory.keys[anchors], len(anchors), 4, 0.1, 3, None)
        A = torch.zeros(h * w, len(anchors) * h * w).scatter_add(1, best.index, best.weight)
        torch.testing.assert_close(
            found.from_anchors()[k], (A @ memory.masks[anchors][..., k].flatten()).view(h, w)
        )
        for window in (Window(0, 0, h, w), Window(2, 3, 4, 5)):
            torch.testing.assert_close(found.values(k, window), window.cut(V_q, h))
    if not late:
        torch.testing.assert_close(found.coarse(), torch.stack(said))
        return
    # Background is what neither affinity takes for an object of its own; all of it together is one.
    nothing = (1 - said[0]) * (1 - said[1] - said[2])
    torch.testing.assert_close(found.coarse(), torch.stack(said) / (nothing + sum(said)))
