"""The model that comes with this package; `docs/model_card.md` says what it is."""

from pathlib import Path

SHIPPED = Path(__file__).with_name("compact.safetensors")
