// How a film is zoomed and moved in its frame, without elements. `x` and `y` are the distance of the film's centre from
// the frame's, in widths and heights of the film that fits the frame.
const LARGEST = 6;
const AFTER = 400; // milliseconds after which a turn of the wheel is a new one
export const FIT = { zoom: 1, x: 0, y: 0 };

const within = (v, most) => Math.min(most, Math.max(-most, v));

// A whole film lies in the middle of its frame; of a zoomed one, some part always does.
export function heldIn({ zoom, x, y }) {
  return zoom === 1 ? FIT : { zoom, x: within(x, zoom / 2), y: within(y, zoom / 2) };
}

// Zoom by a factor; what lies at `at` stays there.
export function zoomedBy(lens, factor, at) {
  const zoom = Math.min(LARGEST, Math.max(1, lens.zoom * factor));
  const grown = zoom / lens.zoom;
  return heldIn({ zoom, x: at.x - (at.x - lens.x) * grown, y: at.y - (at.y - lens.y) * grown });
}

export const movedBy = (lens, x, y) => heldIn({ zoom: lens.zoom, x: lens.x + x, y: lens.y + y });

// Place of the film in the box that it would fit, for the stylesheet.
export const placed = ({ zoom, x, y }) => ({
  width: `${100 * zoom}%`,
  left: `${50 + 100 * x - 50 * zoom}%`,
  top: `${50 + 100 * y - 50 * zoom}%`,
});

// Factor of a turn of the wheel: a notch of a mouse is 100 pixels or 3 lines; a pinch on a touchpad comes with Ctrl.
export function factorOf({ deltaY, deltaMode, ctrlKey }) {
  const pixels = deltaMode === 0 ? deltaY : deltaY * 33;
  return Math.exp(-within(pixels, 200) / (ctrlKey ? 100 : 400));
}

// Whether a turn of the wheel scrolls the page: backwards over a film that fits already, and not while zooming out.
export const passes = (lens, { deltaY, ctrlKey }, since) => lens.zoom === 1 && deltaY > 0 && !ctrlKey && since > AFTER;
