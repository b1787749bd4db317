"""Encoders on backbones of timm: ViTs are read after a block, other networks after a stage."""

import importlib
import logging
import sys
from difflib import get_close_matches
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_umec.constants import IMAGENET_MEAN, IMAGENET_STD
from vos_umec.errors import CheckpointError, ConfigError, MissingDependencyError
from vos_umec.models.encoder import Encoder, Features
from vos_umec.models.weights import load_tensors, read_tensors, strip_prefix

log = logging.getLogger(__name__)

_DINO_STD = (0.228, 0.224, 0.225)


class Blocks(nn.Module):
    """Feature maps of a ViT after some of its blocks, with its final norm, all at `stride`.

    Args:
        net: A VisionTransformer or Eva of timm, made for images of any size.
        layer: The last block that is read; those behind it are dropped.
        stride: s, 1 to the patch size; None for the patch size.
        as_dino: Resize position embeddings as DINO's code does.
    """

    def __init__(self, net: Any, layer: int, stride: int | None, as_dino: bool) -> None:
        super().__init__()
        layer = _from_start(layer, len(net.blocks), "blocks")
        # The decoder's skips: at two thirds and one third of the way.
        earlier = {(layer + 1) // 3 - 1, 2 * (layer + 1) // 3 - 1} - {-1, layer}
        self.layers = [*sorted(earlier), layer]
        net.prune_intermediate_layers(self.layers, prune_norm=False, prune_head=True)
        embed = net.patch_embed
        patch = embed.patch_size[0]
        self.stride = stride or patch
        if not 1 <= self.stride <= patch:
            raise ConfigError(f"a ViT of {patch} pixel patches takes a stride of 1 to {patch}; found {stride}")
        embed.proj.stride = (self.stride, self.stride)
        embed.img_size = None  # its test for whole patches knows no stride but the patch size
        self.overlap = patch - self.stride
        if as_dino:
            if net.num_prefix_tokens != 1 or net.no_embed_class or net.pos_embed is None:
                raise ConfigError("as_dino is for DINO's ViTs, with a class token and learnt position embeddings")
            net._pos_embed = MethodType(_dino_tokens, net)
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C, H/s, W/s), the last block's at the end."""
        h, w = x.shape[-2] // self.stride, x.shape[-1] // self.stride
        before, after = self.overlap // 2, self.overlap - self.overlap // 2
        if self.overlap:  # so that every cell is the middle of its patch
            x = F.pad(x, (before, after, before, after), mode="replicate")
        tokens = self.net.forward_intermediates(
            x, indices=self.layers, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return [one.transpose(1, 2).unflatten(2, (h, w)) for one in tokens]


def _dino_tokens(net: Any, x: Tensor) -> Tensor:
    """Tokens (B, 1+h*w, C) of patches (B, h, w, C), with position embeddings resized as DINO's code does.

    It does so without antialiasing, which has another cubic kernel too, and for 0.1 cells more than there are, so
    that every cell is a little off its place (facebookresearch/dino 7c446df, vision_transformer.py).
    """
    _, h, w, C = x.shape
    rows, columns = net.patch_embed.grid_size
    positions = net.pos_embed[:, 1:]  # (1, rows*columns, C)
    if (h, w) != (rows, columns):
        grid = positions.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        scale = ((h + 0.1) / rows, (w + 0.1) / columns)
        positions = F.interpolate(grid, scale_factor=scale, mode="bicubic").flatten(2).mT
    first = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
    return torch.cat([first, x.reshape(-1, h * w, C) + positions], dim=1)


class Stages(nn.Module):
    """Feature maps of a network of timm made with `features_only`; `stride` is the coarsest map's."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.stride = int(max(net.feature_info.reduction()))
        self.last = getattr(getattr(net, "output_fmt", None), "value", "NCHW") == "NHWC"

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i), fine to coarse."""
        maps: list[Tensor] = self.net(x)
        return [one.permute(0, 3, 1, 2) for one in maps] if self.last else maps


def _build_backbone(
    name: str, layer: int, stride: int | None, as_dino: bool
) -> tuple[Blocks | Stages, dict[str, Any]]:
    """A backbone of timm that gives feature maps, and timm's description of its input ("mean", "std")."""
    timm = _import_timm()
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), cutoff=0.4)
        raise ConfigError(
            f"timm {timm.__version__} has no backbone '{name}'; names like it are {', '.join(near) or 'none'}, and "
            "timm.list_models() gives all"
        )
    net = _create(timm, name, dynamic_img_size=True)
    if net is not None and hasattr(net, "blocks") and isinstance(net.patch_embed, timm.layers.PatchEmbed):
        return Blocks(net, layer, stride, as_dino), net.pretrained_cfg
    if as_dino:
        raise ConfigError(f"as_dino is for DINO's ViTs, and timm's '{name}' is none; leave it out")
    options: dict[str, Any] = {} if net is None else {"dynamic_img_size": True}  # Swin's windows, for one
    if stride is not None:
        options["output_stride"] = stride
    net = _create(timm, name, features_only=True, **options)
    if net is None:
        raise ConfigError(f"timm's '{name}' takes no output stride; leave stride out and take an earlier layer")
    layer = _from_start(layer, len(net.feature_info), "stages")
    options["out_indices"] = list(range(max(0, layer - 2), layer + 1))
    net = _create(timm, name, features_only=True, **options)
    return Stages(net), net.pretrained_cfg


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError(
            "backbones of timm need the package timm, which is not installed; pip install 'vos-umec[timm]'"
        ) from error


def _load_file(net: nn.Module, path: str | Path) -> None:
    """Fill all of a network of timm, without classifier, from a file."""
    expected = net.state_dict()
    tensors = read_tensors(path)
    prefix, own = strip_prefix(tensors, next(iter(expected)), expected)
    found = own or tensors
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        found = convert(found, net)  # other codes' names, and embeddings of another grid
    held = {key: x for key, x in found.items() if key in expected}
    load_tensors(
        net,
        held,
        problem=f"{path} is not of this backbone ({type(net).__name__})",
        advice="give the name it was trained as",
    )
    unused = [key for key in found if key not in expected]
    log.info(
        "%s: of %d tensors, those under '%s' fill the backbone; unused there: %s",
        path,
        len(tensors),
        prefix,
        unused or "none",
    )


def _create(timm: Any, name: str, pretrained: bool = False, **options: Any) -> Any:
    """A network of timm, or None if it has no such option."""
    if "features_only" not in options:
        options["num_classes"] = 0
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except (TypeError, RuntimeError, AttributeError, AssertionError, ValueError, OSError) as error:
        if isinstance(error, TypeError) and any(option in str(error) for option in options):
            return None
        if pretrained:
            raise CheckpointError(f"timm's weights of '{name}' cannot be had: {error}; give a file") from error
        raise ConfigError(
            f"timm's '{name}' cannot be built with {options}: {error or type(error).__name__}; change the "
            "name, the stride or the layer"
        ) from error


def _from_start(layer: int, number: int, of: str) -> int:
    if not -number <= layer < number:
        raise ConfigError(f"this backbone has {number} {of}, 0 to {number - 1}; found layer {layer}")
    return layer % number


class TimmEncoder(Encoder):
    """E on a backbone of timm, randomly initialised; `load_weights` fills it.

    A ViT is read after a block, with its final norm and without class and register tokens; its position embeddings
    are resized to the frame. With a stride below the patch size its patches overlap, each centred on its cell.
    Other networks are read after a stage. Frames come with ImageNet's mean and deviation and are brought to the
    backbone's own.

    Args:
        name: timm's name, as "vit_small_patch16_224.dino", "vit_small_patch14_dinov2", "convnext_tiny".
        stride: s; None for the backbone's own. ViTs take 1 to their patch size, convolutional networks what they
            can dilate to (8, 16 or 32).
        layer: The block or stage whose features become keys, from 0, or from the end if negative.
        key_dim: D, by a 1x1 head that wants training; None for the features themselves.
        as_dino: Take frames as DINO's evaluation does: position embeddings resized by its own rule, and red divided
            by 0.228 where ImageNet's deviation is 0.229. None for yes with timm's names of DINO's ViTs, such as
            "vit_base_patch8_224.dino".

    Raises:
        MissingDependencyError: If timm is not installed.
        ConfigError: If there is no such backbone, it gives no feature maps for frames of any size, or an argument
            does not fit it.

    Example:
        >>> E = TimmEncoder("vit_tiny_patch16_224", stride=8, layer=2)
        >>> tuple(E(torch.rand(1, 3, 48, 80)).key.shape), E.stride
        ((1, 192, 6, 10), 8)
    """

    def __init__(
        self,
        name: str,
        stride: int | None = None,
        layer: int = -1,
        key_dim: int | None = None,
        as_dino: bool | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        if as_dino is None:
            as_dino = name.startswith("vit_") and name.endswith(".dino")
        self.net, expected = _build_backbone(name, layer, stride, as_dino)
        own = (IMAGENET_MEAN, _DINO_STD) if as_dino else (expected["mean"], expected["std"])
        mean, std, own_mean, own_std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD, *own))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)
        self.stride = self.net.stride
        maps = self._probe(name)
        self.trunk_dim = maps[-1].shape[1]
        self.skip_dims = tuple(one.shape[1] for one in reversed(maps[:-1]))
        self.key_dim = key_dim or self.trunk_dim
        self.head = nn.Identity() if key_dim is None else nn.Conv2d(self.trunk_dim, key_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Features:
        """Encode frames; the trunk features are those that keys are made of, the skips those of earlier layers."""
        maps = self.net(x * self.scale + self.shift)
        key = F.normalize(self.head(maps[-1]).float(), dim=1)  # (B, D, h, w), fp32 under autocast too
        return Features(key=key, trunk=maps[-1], skips=tuple(reversed(maps[:-1])))

    def load_weights(self, source: str | Path) -> None:
        """Fill the backbone from a file, in timm's names or those that timm converts; "timm" downloads its own."""
        downloaded = str(source) == "timm"
        whole = _create(_import_timm(), self.name, pretrained=downloaded)
        if not downloaded:
            _load_file(whole, source)
        held = {key.replace(".", "_"): x for key, x in whole.state_dict().items()}  # features_only joins names so
        net = self.net.net
        net.load_state_dict({key: held[key.removeprefix("model.").replace(".", "_")] for key in net.state_dict()})

    @torch.no_grad()
    def _probe(self, name: str) -> list[Tensor]:
        """The feature maps of a frame of 2 x 3 cells, a size that no backbone was made for."""
        self.net.eval()
        try:
            maps: list[Tensor] = self.net(torch.zeros(1, 3, 2 * self.stride, 3 * self.stride))
            found = [tuple(one.shape) for one in maps]
        except (AssertionError, RuntimeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"timm's '{name}' gives no feature maps for frames of any size ({str(error).splitlines()[0]}); "
                "take a backbone with spatial features, as a ViT, ResNet or ConvNeXt"
            ) from error
        if len(found[-1]) != 4 or found[-1][2:] != (2, 3):
            raise ConfigError(
                f"timm's '{name}' has no spatial features at stride {self.stride}: it gives {found[-1]} where "
                "(1, C, 2, 3) is expected; take a backbone with spatial features, as a ViT, ResNet or ConvNeXt"
            )
        self.net.train()
        return maps
