"""The built-in sample release: drawn aerial scenes in SkyScript's own file layout."""

from dove_core.data.scenes.release import draw_release

__all__ = ["draw_release"]
