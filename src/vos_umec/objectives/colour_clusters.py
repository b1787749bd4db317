"""A few colours that stand for all of a batch, by k-means on the device."""

import torch
from torch import Tensor


@torch.no_grad()
def colour_clusters(colours: Tensor, count: int, iterations: int = 10) -> Tensor:
    """Cluster colours by k-means, seeded far apart (k-means++).

    `vos_umec.clustering` is for the millions of wide points of a video; here a step of training clusters some ten
    thousand pairs of numbers.

    Args:
        colours: Points (n, C), n at least 1.
        count: Clusters; where there are fewer different colours, some of the centres are equal.
        iterations: Lloyd's iterations.

    Returns:
        Centres (count, C).

    Example:
        >>> points = torch.tensor([[0.0], [0.5], [5.0], [5.5]])
        >>> sorted(colour_clusters(points, 2).flatten().tolist())
        [0.25, 5.25]
    """
    first = torch.randint(len(colours), (1,), device=colours.device)
    centres = colours[first]  # (1, C)
    apart = (colours - centres).square().sum(dim=1)  # (n,) to the nearest centre
    for _ in range(1, count):
        drawn = torch.multinomial(apart + 1e-12, 1)  # the addend for when every colour is a centre
        centres = torch.cat((centres, colours[drawn]))
        apart = torch.minimum(apart, (colours - colours[drawn]).square().sum(dim=1))
    for _ in range(iterations):
        labels = nearest_colour(colours, centres)
        sizes = torch.zeros(count, dtype=colours.dtype, device=colours.device)
        sizes.index_add_(0, labels, torch.ones_like(apart))
        sums = torch.zeros_like(centres).index_add_(0, labels, colours)
        centres = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), centres)
    return centres


def nearest_colour(colours: Tensor, centres: Tensor) -> Tensor:
    """The number of each colour's nearest centre.

    Args:
        colours: Points (..., C).
        centres: Centres (count, C).

    Returns:
        (...) int64, in [0, count).

    Example:
        >>> nearest_colour(torch.tensor([[0.1], [4.0]]), torch.tensor([[0.0], [5.0]])).tolist()
        [0, 1]
    """
    return torch.cdist(colours, centres).argmin(dim=-1)
