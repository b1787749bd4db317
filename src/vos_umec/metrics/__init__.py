"""Region similarity J, boundary measure F, and the scores of DAVIS and YouTube-VOS."""
