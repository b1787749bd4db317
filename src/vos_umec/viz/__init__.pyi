from .overlays import overlay as overlay
from .segments import segment_colors as segment_colors
from .segments import segment_sheet as segment_sheet
from .sheets import contact_sheet as contact_sheet
from .sheets import save_picture as save_picture
