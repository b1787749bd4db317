"""What the processes of the soak import once, before they are forked: all that training and the commands need."""

import torch

import vos_umec.cli.evaluate
import vos_umec.cli.prepare
import vos_umec.cli.segment
import vos_umec.cli.submission
import vos_umec.cli.trainer
import vos_umec.data.datamodules  # noqa: F401

torch.set_num_threads(1)
