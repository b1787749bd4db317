"""Region similarity J, boundary measure F, and the DAVIS statistics over them."""
