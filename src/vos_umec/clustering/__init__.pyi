from .segments import SegmentHealth as SegmentHealth
from .segments import SegmentsResult as SegmentsResult
from .segments import SpaceTimeClusterer as SpaceTimeClusterer
from .segments import position_code_3d as position_code_3d
from .video import cluster_video as cluster_video
from .video import encode_frames as encode_frames
from .videos import cluster_videos as cluster_videos
