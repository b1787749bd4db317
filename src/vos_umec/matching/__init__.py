"""Reading what reference frames hold along the affinity; torch only."""

# isort: off
from vos_umec.matching.readout import Readout as Readout  # first: `readout` below is the function, not this module
from vos_umec.matching.affinity import affinity as affinity
from vos_umec.matching.affinity import readout as readout
from vos_umec.matching.affinity import window_readout as window_readout
from vos_umec.matching.topk import TopK as TopK
from vos_umec.matching.topk import gather_values as gather_values
from vos_umec.matching.topk import top_k_affinity as top_k_affinity
