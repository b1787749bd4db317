"""Devices by name, and what is said of those that are not there: one line of ours."""

import pytest
import torch

from vos_umec.device import pick_device
from vos_umec.errors import ConfigError
from vos_umec.inference.load import load_segmenter

CPU_ONLY = not torch.cuda.is_available() and not torch.backends.mps.is_available()


@pytest.mark.parametrize(
    "name", ["gpu", "cudda", "CUDA", "0", "", "cuda:", "cuda:x", "cuda:-1", "xpu", "meta", None]
)
def test_what_is_no_device_is_named_with_those_there_are(name):
    with pytest.raises(ConfigError) as error:
        pick_device(name)
    assert str(error.value) == f"there is no device '{name}'; give auto, cpu, cuda, cuda:1 or mps"


@pytest.mark.skipif(not CPU_ONLY, reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:9", "mps", "mps:0", "cpu:1"])
def test_a_device_that_is_not_here_is_named_with_those_that_are(name):
    with pytest.raises(ConfigError) as error:
        load_segmenter(device=name)
    assert str(error.value).startswith(f"this machine has no device '{name}'")
    assert str(error.value).endswith("; those it has: auto, cpu")


def test_of_two_gpus_the_third_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    with pytest.raises(ConfigError, match=r"'cuda:2'; those it has: auto, cpu, cuda:0, cuda:1"):
        pick_device("cuda:2")


def test_a_gpu_that_is_there_and_not_ready_is_named_by_its_first_sentence(monkeypatch):
    def empty(*_, **__):
        raise RuntimeError("CUDA error: out of memory. Compile with a flag.\nMore lines")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(ConfigError, match=r"'cpu' cannot be used now \(CUDA error: out of memory\); those"):
        pick_device("cpu")


@pytest.mark.parametrize("name", [torch.device("cpu"), "cpu", "cpu:0"])
def test_a_device_of_torch_will_do_as_well(name):
    assert pick_device(name).type == "cpu"
