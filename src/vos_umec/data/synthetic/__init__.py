"""Synthetic videos with exact masks: the data set, and the scenes, objects and textures it is drawn from."""

from vos_umec.data.synthetic.dataset import SyntheticVOS as SyntheticVOS
