"""Readers of the original file layouts, one module per family."""

from jaxdefense.data.readers.base import Reader, Splits

__all__ = ["Reader", "Splits"]
