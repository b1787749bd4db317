from .heat_maps import heat_map as heat_map
from .heat_maps import mark_pixel as mark_pixel
from .overlays import overlay as overlay
from .segments import segment_colors as segment_colors
from .segments import segment_sheet as segment_sheet
from .sheets import contact_sheet as contact_sheet
from .sheets import save_picture as save_picture
from .sliders import Sliders as Sliders
