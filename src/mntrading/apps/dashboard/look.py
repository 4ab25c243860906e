"""The few styles Streamlit has no option for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CSS: Final = """
<style>
/* a figure with a least width scrolls sideways on a phone */
[class*="st-key-wide-"] { overflow-x: auto; }
[class*="st-key-wide-"] [data-testid="stPlotlyChart"],
[class*="st-key-wide-"] [data-testid="stElementContainer"] { min-width: 680px; }
.mnt-facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(185px, 46%), 1fr)); gap: 0.6rem; }
.mnt-fact { border: 1px solid color-mix(in srgb, currentColor 16%, transparent); border-radius: 6px;
  padding: 0.6rem 0.8rem; }
.mnt-label, .mnt-note { font-size: 0.8rem; opacity: 0.72; line-height: 1.35; }
.mnt-value { font-size: 1.4rem; line-height: 1.5; font-weight: 600; overflow-wrap: anywhere; }
[data-testid="stMainBlockContainer"] { padding-top: 3rem; padding-bottom: 4rem; max-width: 1240px; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 3.2rem 0.8rem 3rem; }
  .mnt-fact { padding: 0.5rem 0.6rem; }
  .mnt-value { font-size: 1.15rem; }
}
</style>
"""

ICON: Final = str(Path(__file__).with_name("icon.svg"))
"""Of the browser's tab; an icon by name would be fetched from elsewhere."""
