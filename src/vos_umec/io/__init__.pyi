from .masks import read_mask as read_mask
from .masks import write_mask as write_mask
from .result_zip import write_result_zip as write_result_zip
from .source import FrameSource as FrameSource
from .source import open_source as open_source
from .video_writer import VideoWriter as VideoWriter
