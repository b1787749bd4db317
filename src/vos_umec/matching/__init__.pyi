from .dense import affinity as affinity
from .readout import Readout as Readout
from .topk import TopK as TopK
from .topk import cell_weights as cell_weights
from .topk import gather_values as gather_values
from .topk import top_k_affinity as top_k_affinity
