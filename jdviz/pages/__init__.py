"""The pages of the app: each reads its controls, calls the rooms below and shows figures."""

from jdviz.pages.registry import PAGES, PageRecord

__all__ = ["PAGES", "PageRecord"]
