from .augment import ClipAugment as ClipAugment
from .augment import normalize as normalize
from .color import from_lab as from_lab
from .color import to_lab as to_lab
from .copy_paste import CopyPaste as CopyPaste
from .geometric import GeometricTransform as GeometricTransform
