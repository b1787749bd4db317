from .load import load_segmenter as load_segmenter
from .memory import ReferenceMemory as ReferenceMemory
from .segmenter import VideoSegmenter as VideoSegmenter
