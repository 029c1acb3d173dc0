import type { Times } from "../protocol.ts";

/** From `offset` on, bytes were received in this second (Unix time); 0 if it is not known. With `about` it may be too early. */
export interface TimeMark {
  offset: number;
  second: number;
  about: boolean;
}

/** The marks of bytes that have yet to come to the screen, by offset. */
export class ByteTimes {
  #marks: TimeMark[] = [];

  add({ offsets, seconds, exact_from: exact }: Times): void {
    const added = offsets.map((offset, index) => ({ offset, second: seconds[index] ?? 0, about: offset < exact }));
    const ordered = (added[0]?.offset ?? 0) >= (this.#marks.at(-1)?.offset ?? 0);
    this.#marks.push(...added);
    if (!ordered) this.#marks.sort((one, other) => one.offset - other.offset);
  }

  /** Removes the marks of the bytes below `end`, and returns them. */
  take(end: number): TimeMark[] {
    const first = this.#marks[0];
    if (first === undefined || first.offset >= end) return [];
    const later = this.#marks.findIndex((mark) => mark.offset >= end);
    return this.#marks.splice(0, later < 0 ? this.#marks.length : later);
  }

  clear(): void {
    this.#marks = [];
  }
}
