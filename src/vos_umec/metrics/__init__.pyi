from .davis import DavisScore as DavisScore
from .jf import boundary_f as boundary_f
from .jf import jaccard as jaccard
from .results import Scores as Scores
from .results import evaluate as evaluate
from .results import print_table as print_table
from .sequence import SequenceScorer as SequenceScorer
from .youtube_vos import YouTubeVOSScores as YouTubeVOSScores
