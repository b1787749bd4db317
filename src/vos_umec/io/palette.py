"""The colours of object ids."""

import numpy as np
import numpy.typing as npt

Colours = npt.NDArray[np.uint8]

# The annotations of DAVIS 2017 colour these many ids; all further ones are the grey of their own number.
DAVIS_COLOURS = 22


def davis_palette() -> Colours:
    """The palette inside the annotation files of DAVIS 2017.

    Returns:
        (256, 3) uint8 RGB, one row per id: black for the background, 21 colours, then greys up to white for 255.

    Source:
        The PNG files of the DAVIS 2017 download, reproduced by rule: the colour map of PASCAL VOC with 191
        for 192 in the first 22 rows.

    Example:
        >>> davis_palette()[[0, 1, 2, 9, 200]].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [191, 0, 0], [200, 200, 200]]
    """
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)  # (256, 3)
    coloured = voc_palette()[:DAVIS_COLOURS]
    palette[:DAVIS_COLOURS] = np.where(coloured == 192, 191, coloured)
    return palette


def voc_palette() -> Colours:
    """The colour map of PASCAL VOC, which many tools of this field write in place of the DAVIS palette.

    Returns:
        (256, 3) uint8 RGB. Bits 0, 1 and 2 of an id are the highest bits of red, green and blue, bits 3, 4 and
        5 the next ones, bits 6 and 7 those after.

    Source:
        The PASCAL VOC development kit.

    Example:
        >>> voc_palette()[[1, 2, 9, 255]].tolist()
        [[128, 0, 0], [0, 128, 0], [192, 0, 0], [224, 224, 192]]
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for level in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette
