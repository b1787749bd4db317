"""Keys of an encoder as colors: places that the network takes for the same look alike."""

import numpy as np
import numpy.typing as npt

from vos_umec.errors import ConfigError
from vos_umec.io.frames import Frame


def key_colors(keys: npt.NDArray[np.floating]) -> Frame:
    """Color each cell by the three directions in which the keys of all these frames vary most (PCA).

    All frames share the directions, so one color means the same in each of them. The colors of another call, or of
    another encoder, cannot be compared with them.

    Args:
        keys: (T, D, h, w) finite numbers, D >= 3, as `encode_frames(...).float().numpy()` gives them.

    Returns:
        (T, h, w, 3) uint8 RGB, a pixel for each cell.

    Raises:
        ConfigError: The shape is not as above, or a number is not finite.

    Example:
        >>> keys = np.zeros((1, 3, 1, 2))
        >>> keys[0, 0, 0] = -1, 1
        >>> key_colors(keys)[0, 0].tolist()
        [[0, 128, 128], [255, 128, 128]]
    """
    if keys.ndim != 4 or keys.shape[1] < 3 or not keys.size or not np.isfinite(keys).all():
        raise ConfigError(f"keys of shape {keys.shape}: expected (T, D, h, w) finite numbers, D of 3 or more")
    cells = np.moveaxis(keys, 1, -1).astype(np.float64)  # (T, h, w, D)
    cells -= cells.mean(axis=(0, 1, 2))
    flat = cells.reshape(-1, keys.shape[1])  # (n, D)
    directions = np.linalg.eigh(flat.T @ flat)[1][:, :-4:-1]  # (D, 3), the strongest first
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), range(3)])  # eigh leaves the sign open
    placed = flat @ directions  # (n, 3)
    reach = np.quantile(np.abs(placed), 0.98, axis=0).clip(min=1e-9)  # a few outliers must not make all else grey
    colors: Frame = ((placed / reach).clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8)
    return colors.reshape(*cells.shape[:3], 3)
