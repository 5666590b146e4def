"""What a self-contained HTML page of ours is made of: templates that escape, one style, figures, and a write in one step."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Begins the style of every page; light or dark as the reader's system is.
STYLE = """\
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5c6470; --page: #fff; --line: #d9dde2; --tint: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a0a8b3; --page: #16181b; --line: #363b42; --tint: #1f2327; }
}
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.3rem; margin: 0 0 .3rem; }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1.5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
pre { background: var(--tint); padding: .8rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem ui-monospace, monospace; }
.note { background: var(--tint); border-left: 4px solid #0b6bcb; padding: .5rem .8rem; margin: .8rem 0; }
"""


def render(template: str, **values: Any) -> str:
    """Fill a jinja2 template; every value is escaped unless it is `Markup`, and `style` is `STYLE`."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(style=Markup(STYLE), **values)


def figure_png(drawers: Sequence[Callable[[Axes], None]], size_in: tuple[float, float], dpi: int) -> bytes:
    """Draw charts side by side.

    Args:
        drawers: Each draws into axes of its own.
        size_in: Width and height of the whole in inches.
        dpi: Pixels an inch.

    Returns:
        A PNG file.
    """
    # Agg canvas and Figure by hand: pyplot would keep global state and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, dpi=dpi, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for place, draw in enumerate(drawers):
        axes = figure.add_subplot(1, len(drawers), place + 1)
        axes.set_axisbelow(True)
        axes.grid(color="#e3e5e8", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
    target = io.BytesIO()
    canvas.print_png(target)
    return target.getvalue()
