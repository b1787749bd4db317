"""Phi: one random geometric transformation for images, masks and features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop
from kornia.geometry.transform import warp_affine
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError

_CANVAS = 1 << 16  # kornia draws boxes in whole pixels; on this canvas they are fractions of a side


@dataclass(frozen=True, eq=False)
class GeometricTransform:
    """Horizontal flip, crop and scale of a batch of clips, one transformation per clip (Phi, UMEC eq. 7 to 10).

    Coordinates are those of pixel centres: pixel 0 is at 0 and the image spans -0.5 to W - 0.5, as in
    `F.interpolate(align_corners=False)`. Only with this convention does transforming the image agree with
    transforming its feature map at every stride. A tensor of another batch or size raises
    a `ConfigError`.

    Attributes:
        matrix: (B, 3, 3) float, affine; maps (x, y, 1) of the source to the output, in pixels.
        size: (H, W) of the source image in pixels.
        output_size: (H, W) of the output image in pixels.

    Raises:
        ConfigError: The matrix is not (B, 3, 3) floating point, or a size is not positive.

    Example:
        >>> phi = GeometricTransform.sample(1, (2, 4), scale=(1.0, 1.0), flip=1.0)
        >>> phi.apply_mask(torch.tensor([[[0, 0, 3, 255], [9, 0, 0, 0]]], dtype=torch.uint8)).tolist()
        [[[255, 3, 0, 0], [0, 0, 0, 9]]]
    """

    matrix: Tensor
    size: tuple[int, int]
    output_size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.matrix.dim() != 3 or self.matrix.shape[1:] != (3, 3) or not self.matrix.is_floating_point():
            raise ConfigError(
                f"matrix of a GeometricTransform is {tuple(self.matrix.shape)} {self.matrix.dtype}; "
                "expected (B, 3, 3) floating point"
            )
        if min(*self.size, *self.output_size) < 1:
            raise ConfigError(
                f"sizes of a GeometricTransform are {self.size} and {self.output_size}; expected (H, W) above 0"
            )

    @classmethod
    def sample(
        cls,
        batch: int,
        size: tuple[int, int],
        output_size: tuple[int, int] | None = None,
        scale: Sequence[float] = (0.5, 1.0),
        flip: float = 0.5,
        device: torch.device | str | None = None,
    ) -> "GeometricTransform":
        """Draw one flip and one crop per clip; the crop is resized to the output size.

        The crop has the aspect of the source and a uniform position inside it. Its area is uniform (kornia's rule),
        so the mean fraction of the side is 0.78 with the default, not 0.75. Draws come from torch's global CPU
        generator (kornia uses no other): they depend on `torch.manual_seed` and not on the device.

        Args:
            batch: B, the number of clips.
            size: (H, W) of the source image in pixels.
            output_size: (H, W) of the output in pixels, `size` if None. Another aspect stretches the image.
            scale: Smallest and largest crop as a fraction of the side, within (0, 1].
            flip: Probability of a horizontal flip, 0 to 1.
            device: Device of the matrix, which is float32.

        Raises:
            ConfigError: `scale` or `flip` is out of range.
        """
        low, high = (float(s) for s in scale)
        if not 0.0 < low <= high <= 1.0:
            raise ConfigError(
                f"scale of Phi is ({low}, {high}); expected fractions of the side, 0 < low <= high <= 1"
            )
        if not 0.0 <= flip <= 1.0:
            raise ConfigError(f"flip of Phi is {flip}; expected a probability, 0 to 1")
        output_size = output_size or size
        canvas = torch.Size((batch, 1, _CANVAS, _CANVAS))
        crop = RandomResizedCrop(size=(_CANVAS, _CANVAS), scale=(low**2, high**2), ratio=(1.0, 1.0))
        box = crop.forward_parameters(canvas)["src"].double() / _CANVAS  # (B, 4, 2) corners x, y; inclusive
        mirrored = RandomHorizontalFlip(p=float(flip)).forward_parameters(canvas)["batch_prob"] > 0.5  # (B,)

        start = box[:, 0]  # (B, 2) left and top of the crop, fractions of W and H
        side = box[:, 2] - start + 1.0 / _CANVAS  # (B, 2)
        source = box.new_tensor([size[1], size[0]])
        output = box.new_tensor([output_size[1], output_size[0]])
        zoom = output / (side * source)
        # The edge of the crop maps to -0.5, so a centre x maps to (x + 0.5 - start * source) * zoom - 0.5.
        shift = (0.5 - start * source) * zoom - 0.5
        matrix = torch.zeros(batch, 3, 3, dtype=torch.float64)
        matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = zoom[:, 0], zoom[:, 1], 1.0
        matrix[:, :2, 2] = shift
        matrix[mirrored, 0] *= -1.0
        matrix[mirrored, 0, 2] += output_size[1] - 1
        return cls(matrix.to(device=device, dtype=torch.float32), size, output_size)

    def apply_image(self, image: Tensor) -> Tensor:
        """Transform images (B, ..., C, H, W) to (B, ..., C, H', W') bilinearly; pixels from outside are zero.

        There is no low-pass filter: reduce by at most 2.
        """
        self._check(image, self.size)
        return self._warp(image, self.matrix, self.output_size, "bilinear")

    def apply_features(self, features: Tensor) -> Tensor:
        """Transform feature maps bilinearly, by the image's matrix conjugated to their grid.

        Cell u of a map at stride s lies at pixel s u + (s - 1) / 2. Interpolation changes the length of vectors:
        normalise unit vectors again.

        Args:
            features: (B, ..., C, h, w) floating point, a grid over the whole source image.

        Returns:
            (B, ..., C, h', w') over the output image at the same stride (rounded to whole cells).
        """
        self._check(features, None)
        grid = (int(features.shape[-2]), int(features.shape[-1]))
        output = self._output_grid(grid)
        return self._warp(features, self._conjugated(grid, output), output, "bilinear")

    def apply_mask(self, mask: Tensor, fill: int = IGNORE) -> Tensor:
        """Transform maps of ids (B, ..., H, W) to (B, ..., H', W') with the nearest pixel, which makes no new ids.

        They are integer or bool, up to 2^24; pixels from outside the source get `fill`.
        """
        if mask.is_floating_point():
            raise ConfigError(f"apply_mask got {mask.dtype}; expected integer ids (use apply_image for soft masks)")
        self._check(mask, self.size)
        ids = self._warp(mask.unsqueeze(-3).float(), self.matrix, self.output_size, "nearest").squeeze(-3)
        seen = self._valid(self.matrix, self.size, self.output_size)
        seen = seen.reshape(seen.shape[0], *[1] * (mask.dim() - 3), *seen.shape[1:])
        return ids.round().to(mask.dtype).masked_fill(~seen, fill)

    def valid_mask(self, grid: tuple[int, int]) -> Tensor:
        """Which cells (B, h', w') bool come from inside the source, after a map of `grid` (h, w) is transformed."""
        output = self._output_grid(grid)
        return self._valid(self._conjugated(grid, output), grid, output)

    def inverse(self) -> "GeometricTransform":
        """The transformation from the output back to the source; its `valid_mask` shows what Phi kept.

        Example:
            >>> phi = GeometricTransform.sample(1, (32, 32), scale=(0.5, 0.5))
            >>> int(phi.inverse().valid_mask((16, 16)).sum())  # a quarter of the source's cells
            64
        """
        return GeometricTransform(torch.linalg.inv(self.matrix), self.output_size, self.size)

    def _check(self, x: Tensor, size: tuple[int, int] | None) -> None:
        if x.shape[0] != self.matrix.shape[0] or (size is not None and tuple(x.shape[-2:]) != size):
            raise ConfigError(
                f"a GeometricTransform of {self.matrix.shape[0]} clips of {self.size} got {tuple(x.shape)}; "
                "sample it with the batch and size of the tensor"
            )

    def _output_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        rows, columns = (
            max(1, round(g * out / n)) for g, n, out in zip(grid, self.size, self.output_size, strict=True)
        )
        return rows, columns

    def _conjugated(self, grid: tuple[int, int], output: tuple[int, int]) -> Tensor:
        """The matrix between the cells of two grids, (B, 3, 3): S'^-1 M S with S: u -> s u + (s - 1) / 2."""
        (sy, sx), (ty, tx) = (
            (n[0] / g[0], n[1] / g[1]) for n, g in ((self.size, grid), (self.output_size, output))
        )
        to_pixels = self.matrix.new_tensor([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
        to_cells = self.matrix.new_tensor([[1 / tx, 0, (1 / tx - 1) / 2], [0, 1 / ty, (1 / ty - 1) / 2], [0, 0, 1]])
        return _product(to_cells, _product(self.matrix, to_pixels))

    @staticmethod
    def _valid(matrix: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
        """(B, h', w') bool: output positions that come from inside the outer edges of the source."""
        back = torch.linalg.inv(matrix)[..., None, None]  # (B, 3, 3, 1, 1)
        v = torch.arange(output[0], device=matrix.device, dtype=matrix.dtype)[:, None]
        u = torch.arange(output[1], device=matrix.device, dtype=matrix.dtype)
        x = back[:, 0, 0] * u + back[:, 0, 1] * v + back[:, 0, 2]  # (B, h', w')
        y = back[:, 1, 0] * u + back[:, 1, 1] * v + back[:, 1, 2]
        edge = 0.5 + 1e-3  # a thousandth of a cell for rounding
        seen: Tensor = (x >= -edge) & (x <= size[1] - 1 + edge) & (y >= -edge) & (y <= size[0] - 1 + edge)
        return seen

    def _warp(self, x: Tensor, matrix: Tensor, output: tuple[int, int], mode: str) -> Tensor:
        """Warp (B, ..., C, H, W) by pixel-centre matrices (B, 3, 3), zero outside the source."""
        batch, (rows, columns) = x.shape[0], x.shape[-2:]
        flat = x.reshape(batch, -1, rows, columns)  # frames become channels: one matrix per clip
        dtype = torch.promote_types(x.dtype, torch.float32)
        # Without autocast, because bfloat16 cannot hold coordinates of several hundred pixels. align_corners=True:
        # kornia then normalises by the outermost pixel centres, as the matrix here does. The half pixel between
        # these and the edge repeats the outermost pixel, as F.interpolate does.
        with torch.autocast(x.device.type, enabled=False):
            warped: Tensor = warp_affine(
                flat.to(dtype), matrix[:, :2].to(dtype), output, mode, padding_mode="border", align_corners=True
            )
        warped = warped * self._valid(matrix, (rows, columns), output).unsqueeze(1)
        return warped.reshape(*x.shape[:-2], *output).to(x.dtype)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of (..., 3, 3) that autocast and TF32 do not change."""
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)
