"""Endings of file names: which are read as pictures or videos, and which only look like one."""

from pathlib import Path, PurePath

PICTURE_SUFFIXES = frozenset(
    {
        ".bmp",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""Pictures that are frames of a folder; Pillow reads them."""

# Of the endings that FFmpeg's demuxers state, those that name video; those that its muxers and cameras write.
VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".266", ".3g2", ".3gp", ".3gpp", ".amv", ".apng", ".asf", ".av1", ".avc", ".avi", ".avs2",
     ".avs3", ".bik", ".cavs", ".cine", ".dav", ".dif", ".divx", ".dnxhd", ".dnxhr", ".drc", ".dv", ".dvr-ms",
     ".evc", ".evo", ".f4v", ".flc", ".fli", ".flv", ".gif", ".gxf", ".h261", ".h263", ".h264", ".h265", ".h266",
     ".h26l", ".hevc", ".insv", ".ism", ".ismv", ".ivf", ".kux", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v",
     ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg",
     ".mpv", ".mts", ".mxf", ".mxg", ".nsv", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".roq",
     ".ser", ".smk", ".tod", ".tp", ".trp", ".ts", ".vc1", ".vc2", ".viv", ".vob", ".vro", ".vvc", ".webm", ".wmv",
     ".wtv", ".xvid", ".y4m"}
)  # fmt: skip
"""Video files; FFmpeg decides by their content how they are read."""

_OTHERS = frozenset(
    {".ari", ".arw", ".arx", ".avif", ".braw", ".cin", ".cr2", ".cr3", ".crm", ".dng", ".dpx", ".exr", ".hdr",
     ".heic", ".heif", ".hif", ".j2k", ".jls", ".jpx", ".jxl", ".jxr", ".mlv", ".mpo", ".nef", ".nv12", ".ogg",
     ".orf", ".pam", ".pbm", ".pcx", ".psd", ".qoi", ".r3d", ".raf", ".ras", ".raw", ".rgb", ".rw2", ".sgi",
     ".swf", ".xbm", ".yuv"}
)  # fmt: skip
_UNFINISHED = frozenset({".crdownload", ".download", ".part", ".partial", ".tmp", ".ytdl"})
# How files begin, by the place of the mark. Where nothing else tells what a file is, this does.
_MARKS = (
    (0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n"), (0, b"GIF8"), (0, b"RIFF"), (4, b"ftyp"), (4, b"moov"),
    (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (0, b"FLV\x01"), (0, b"\x00\x00\x01\xba"), (0, b"\x30\x26\xb2\x75"),
)  # fmt: skip


def ending(path: PurePath) -> str:
    """The ending of a file name as the sets have it: in small letters, with its point; "" if there is none."""
    return path.suffix.lower()


def passed_over(path: Path) -> str | None:
    """The ending to report of a file that looks like a picture or a video and is read as neither; None for others.

    A file without an ending is opened to see how it begins.

    Example:
        >>> passed_over(Path("IMG_1.HEIC")), passed_over(Path("clip.mp4.part")), passed_over(Path("notes.txt"))
        ('.heic', '.mp4.part', None)
    """
    last = ending(path)
    if last in _OTHERS:
        return last
    inner = ending(Path(path.stem))
    if last in _UNFINISHED and inner in VIDEO_SUFFIXES | PICTURE_SUFFIXES | _OTHERS:
        return inner + last
    if last or not _begins_like_one(path):
        return None
    return "no ending"


def _begins_like_one(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(16)
    except OSError:
        return False
    return any(begin.startswith(mark, place) for place, mark in _MARKS)
