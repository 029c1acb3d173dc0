/** Gestures of fingers on a touch screen: a swipe to the neighbouring agent, a pinch. */

export interface Point {
  x: number;
  y: number;
}

/** A swipe is at least this long, in CSS pixels, and at most this slow, in milliseconds. */
const SWIPE_PIXELS = 70;
const SWIPE_MS = 600;
/** How far two fingers move apart or together, as a factor, until it is a pinch. */
const PINCH = 1.25;

/** Before the terminal, which keeps the events of fingers to itself. */
const LISTENS = { passive: true, capture: true };

/** The direction of a swipe: 1 to the left (what comes next), -1 to the right, 0 for another movement. */
export function swiped(from: Point, to: Point, milliseconds: number): -1 | 0 | 1 {
  const across = to.x - from.x;
  if (milliseconds > SWIPE_MS || Math.abs(across) < SWIPE_PIXELS) return 0;
  if (Math.abs(to.y - from.y) > Math.abs(across) / 2) return 0;
  return across < 0 ? 1 : -1;
}

/** Whether two fingers, first `before` and now `now` pixels apart, have moved apart or together; null for neither. */
export function pinched(before: number, now: number): "apart" | "together" | null {
  if (before <= 0) return null;
  if (now / before >= PINCH) return "apart";
  return before / now >= PINCH ? "together" : null;
}

/** Calls `moved` for each swipe on the element, except on a part that scrolls sideways or takes input. */
export function onSwipe(moved: (by: -1 | 1) => void): (element: HTMLElement) => () => void {
  return (element) => {
    let from: { point: Point; at: number } | null = null;
    const start = (event: TouchEvent): void => {
      const [touch] = event.touches;
      from = null;
      if (touch === undefined || event.touches.length > 1 || !(event.target instanceof Element)) return;
      if (keeps(event.target, element)) return;
      from = { point: { x: touch.clientX, y: touch.clientY }, at: event.timeStamp };
    };
    const end = (event: TouchEvent): void => {
      const [touch] = event.changedTouches;
      if (from === null || touch === undefined) return;
      const by = swiped(from.point, { x: touch.clientX, y: touch.clientY }, event.timeStamp - from.at);
      from = null;
      if (by !== 0) moved(by);
    };
    element.addEventListener("touchstart", start, LISTENS);
    element.addEventListener("touchend", end, LISTENS);
    return () => {
      element.removeEventListener("touchstart", start, LISTENS);
      element.removeEventListener("touchend", end, LISTENS);
    };
  };
}

/** Calls `moved` once for each pinch on the element. */
export function onPinch(moved: (how: "apart" | "together") => void): (element: HTMLElement) => () => void {
  return (element) => {
    let before = 0;
    const start = (event: TouchEvent): void => {
      before = distance(event.touches);
    };
    const move = (event: TouchEvent): void => {
      const how = pinched(before, distance(event.touches));
      if (how === null || event.touches.length !== 2) return;
      before = 0;
      moved(how);
    };
    element.addEventListener("touchstart", start, LISTENS);
    element.addEventListener("touchmove", move, LISTENS);
    return () => {
      element.removeEventListener("touchstart", start, LISTENS);
      element.removeEventListener("touchmove", move, LISTENS);
    };
  };
}

/** Whether something between the target and the element needs sideways movements itself. */
function keeps(target: Element, element: Element): boolean {
  for (let part: Element | null = target; part !== null; part = part.parentElement) {
    if (part.matches("input, textarea, select")) return true;
    const scrolls = part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).overflowX !== "hidden";
    if (scrolls && getComputedStyle(part).overflowX !== "visible") return true;
    if (part === element) return false;
  }
  return false;
}

/** How far apart two fingers are, in pixels; 0 for another number of fingers. */
function distance(touches: TouchList): number {
  const [one, other] = [touches[0], touches[1]];
  if (one === undefined || other === undefined || touches.length !== 2) return 0;
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
}
