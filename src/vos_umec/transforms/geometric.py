"""Phi: one random geometric transformation for images, masks and features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop
from torch import Tensor

from vos_umec.constants import IGNORE
from vos_umec.errors import ConfigError

_CANVAS = 1 << 16  # kornia draws boxes in whole pixels; on this canvas they are fractions of a side
_ROUNDING = 1e-5  # of a side: what lies outside by no more than this is inside


@dataclass(frozen=True, eq=False)
class GeometricTransform:
    """Horizontal flip, crop and scale of a batch of clips, one transformation per clip (Phi, UMEC eq. 7 to 10).

    Coordinates are those of pixel centres: pixel 0 is at 0 and the image spans -0.5 to W - 0.5, as in
    `F.interpolate(align_corners=False)`. Only with this convention does transforming the image agree with
    transforming its feature map at every stride. A tensor of another batch or size raises
    a `ConfigError`.

    The matrix lies on the CPU, where it is made and inverted. What is transformed may lie on any device; the few
    numbers that are needed there are sent without waiting for it.

    Attributes:
        matrix: (B, 3, 3) float, affine; maps (x, y, 1) of the source to the output, in pixels.
        size: (H, W) of the source image in pixels.
        output_size: (H, W) of the output image in pixels.
        device: Where `valid_mask` makes its masks.

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
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.matrix.dim() != 3 or self.matrix.shape[1:] != (3, 3) or not self.matrix.is_floating_point():
            raise ConfigError(
                f"matrix of a GeometricTransform is {tuple(self.matrix.shape)} {self.matrix.dtype}; "
                "expected (B, 3, 3) floating point"
            )
        object.__setattr__(self, "matrix", self.matrix.cpu())
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
            device: Where `valid_mask` makes its masks; None for the CPU.

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
        return cls(matrix.float(), size, output_size, device or "cpu")

    def apply_image(self, image: Tensor) -> Tensor:
        """Transform images (B, ..., C, H, W) to (B, ..., C, H', W') bilinearly; pixels from outside are zero.

        There is no low-pass filter: reduce by at most 2.
        """
        self._check(image, self.size)
        return self._warp(image, self.output_size, "bilinear")

    def apply_features(self, features: Tensor) -> Tensor:
        """Transform feature maps bilinearly, as the image that they are a grid over.

        Cell u of a map at stride s lies at pixel s u + (s - 1) / 2. Interpolation changes the length of vectors:
        normalise unit vectors again.

        Args:
            features: (B, ..., C, h, w) floating point, a grid over the whole source image.

        Returns:
            (B, ..., C, h', w') over the output image at the same stride (rounded to whole cells).
        """
        self._check(features, None)
        output = self._output_grid((int(features.shape[-2]), int(features.shape[-1])))
        return self._warp(features, output, "bilinear")

    def apply_mask(self, mask: Tensor, fill: int = IGNORE) -> Tensor:
        """Transform maps of ids (B, ..., H, W) to (B, ..., H', W') with the nearest pixel, which makes no new ids.

        They are integer or bool, up to 2^24; pixels from outside the source get `fill`.
        """
        if mask.is_floating_point():
            raise ConfigError(f"apply_mask got {mask.dtype}; expected integer ids (use apply_image for soft masks)")
        self._check(mask, self.size)
        shifted = mask.unsqueeze(-3).float() - fill  # outside the source, a warp gives 0
        return (self._warp(shifted, self.output_size, "nearest").squeeze(-3) + fill).to(mask.dtype)

    def valid_mask(self, grid: tuple[int, int]) -> Tensor:
        """Which cells (B, h', w') bool come from inside the source, after a map of `grid` (h, w) is transformed."""
        return _inside(self._sources(self._output_grid(grid), self.device, torch.float32))

    def inverse(self) -> "GeometricTransform":
        """The transformation from the output back to the source; its `valid_mask` shows what Phi kept.

        Example:
            >>> phi = GeometricTransform.sample(1, (32, 32), scale=(0.5, 0.5))
            >>> int(phi.inverse().valid_mask((16, 16)).sum())  # a quarter of the source's cells
            64
        """
        return GeometricTransform(torch.linalg.inv(self.matrix), self.output_size, self.size, self.device)

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

    def _sources(self, output: tuple[int, int], device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Where the cells of a grid over the output come from, (B, *output, 2): x and y, -1 and 1 at its edges.

        In coordinates that are -1 and 1 at the edges, Phi is the same for an image and for any grid over it.
        """
        phi = torch.linalg.inv(_from_edges(self.output_size)) @ self.matrix.double() @ _from_edges(self.size)
        back = torch.linalg.inv(phi)[:, None, None, :2].to(dtype)  # (B, 1, 1, 2, 3)
        back = back.to(device, non_blocking=True)
        v, u = (torch.linspace(1 / n - 1, 1 - 1 / n, n, device=device, dtype=dtype)[:, None] for n in output)
        return torch.addcmul(torch.addcmul(back[..., 2], back[..., 1], v[:, None]), back[..., 0], u)

    def _warp(self, x: Tensor, output: tuple[int, int], mode: str) -> Tensor:
        """Warp (B, ..., C, H, W) to (B, ..., C, *output), zero outside the source."""
        flat = x.reshape(x.shape[0], -1, *x.shape[-2:])  # frames become channels: one matrix per clip
        dtype = torch.promote_types(x.dtype, torch.float32)
        sources = self._sources(output, x.device, dtype)  # (B, h', w', 2)
        # Between the outermost pixel centres and the edge the outermost pixel is repeated, as F.interpolate does.
        warped = F.grid_sample(flat.to(dtype), sources, mode, padding_mode="border", align_corners=False)
        warped = warped * _inside(sources).unsqueeze(1)
        return warped.reshape(*x.shape[:-2], *output).to(x.dtype)


def _from_edges(size: tuple[int, int]) -> Tensor:
    """The matrix (3, 3) from coordinates that are -1 and 1 at the edges to those of pixel centres."""
    H, W = size
    return torch.tensor([[W / 2, 0, (W - 1) / 2], [0, H / 2, (H - 1) / 2], [0, 0, 1]], dtype=torch.float64)


def _inside(sources: Tensor) -> Tensor:
    """Which of the places (..., 2) lie inside the source: bool (...)."""
    return (sources.abs() <= 1 + _ROUNDING).all(dim=-1)
