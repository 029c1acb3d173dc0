import { elementScroll, observeElementOffset, observeElementRect, Virtualizer, defaultRangeExtractor, type VirtualItem } from "@tanstack/virtual-core";

/** This many rows stay in the document above and below those that are seen. */
const MARGIN = 12;
const AT_END_PX = 24;

/**
 * A long list of rows of different heights, of which only those near the seen part are in the document.
 *
 * Rows are known by keys. With `follows`, rows may be added anywhere: what is seen keeps its place, and a list that is
 * scrolled to its end stays at its end.
 */
export class WindowedList {
  /** The rows to show: their places in the list, and their distances from its top in px. */
  rows = $state.raw<VirtualItem[]>([]);
  /** Of the whole list, in px. */
  height = $state(0);
  atEnd = $state(true);

  readonly #virtualizer: Virtualizer<HTMLElement, HTMLElement>;
  readonly #follows: boolean;
  readonly #rowHeight: number;
  #host: HTMLElement | null = null;
  #keys: readonly number[] = [];
  #kept: number | null = null;
  #unfolds = false;

  constructor(rowHeight: number, follows: boolean) {
    this.#rowHeight = rowHeight;
    this.#follows = follows;
    this.#virtualizer = new Virtualizer(this.#options());
  }

  /** Scrolls within this element, until the returned function is called. */
  attach(host: HTMLElement): () => void {
    this.#host = host;
    const ended = this.#virtualizer._didMount();
    this.committed();
    if (this.#follows) this.showEnd();
    return () => {
      this.#host = null;
      ended();
    };
  }

  /** Sets the rows' keys. Call `committed` when the document has the changed rows. */
  set(keys: readonly number[]): void {
    this.#keys = keys;
    this.#unfolds = false;
    this.#virtualizer.setOptions(this.#options());
    this.#changed();
  }

  /** A row is about to change its height by the person's will: it stays where it is, also at the end of the list. */
  unfolds(): void {
    this.#unfolds = true;
    this.#virtualizer.setOptions(this.#options());
  }

  committed(): void {
    this.#virtualizer._willUpdate();
  }

  /** Follows the height of a row, whose attribute `data-index` is its place. */
  measure(row: HTMLElement): void {
    this.#virtualizer.measureElement(row);
  }

  /** Keeps the row at this place in the document wherever the list is scrolled, as that with the focus must be. */
  keep(index: number | null): void {
    if (index === this.#kept) return;
    this.#kept = index;
    this.#virtualizer.setOptions(this.#options());
    this.#changed();
  }

  /** Scrolls as little as shows this row. */
  show(index: number): void {
    this.#virtualizer.scrollToIndex(index);
  }

  showEnd(): void {
    this.#virtualizer.scrollToEnd();
  }

  #changed(): void {
    this.rows = this.#virtualizer.getVirtualItems();
    this.height = this.#virtualizer.getTotalSize();
    this.atEnd = this.#host === null || this.#virtualizer.isAtEnd();
  }

  #options() {
    const keys = this.#keys;
    const kept = this.#kept;
    return {
      count: keys.length,
      getItemKey: (index: number) => keys[index] ?? index,
      getScrollElement: () => this.#host,
      estimateSize: () => this.#rowHeight,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      overscan: MARGIN,
      anchorTo: this.#follows && !this.#unfolds ? ("end" as const) : ("start" as const),
      followOnAppend: this.#follows,
      scrollEndThreshold: AT_END_PX,
      rangeExtractor: (range: Parameters<typeof defaultRangeExtractor>[0]) => {
        const shown = defaultRangeExtractor(range);
        if (kept !== null && kept < keys.length && !shown.includes(kept)) shown.push(kept);
        return shown.sort((a, b) => a - b);
      },
      onChange: () => this.#changed(),
    };
  }
}
