from .callbacks.data_wait import DataWait as DataWait
from .callbacks.pseudo_mask_refresh import PseudoMaskRefresh as PseudoMaskRefresh
from .callbacks.time_budget import TimeBudget as TimeBudget
from .checkpoint import load_module as load_module
from .evaluation import EvaluationSettings as EvaluationSettings
from .evaluation import SequenceEvaluation as SequenceEvaluation
from .evaluation import score_table as score_table
from .module import UMECModule as UMECModule
