export interface Notice {
  id: number;
  kind: "info" | "error";
  text: string;
  /** The address of a page with more about it. */
  href?: string | undefined;
}

const SHOWN_MS = { info: 2500, error: 8000 };

/** Short messages in the corner of the page; each disappears after a few seconds or when it is dismissed. */
class Notices {
  list = $state<Notice[]>([]);
  #next = 0;

  info(text: string, href?: string): void {
    this.#add("info", text, href);
  }

  error(text: string): void {
    this.#add("error", text);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  #add(kind: Notice["kind"], text: string, href?: string): void {
    const id = this.#next++;
    this.list = [...this.list.filter((notice) => notice.text !== text), { id, kind, text, href }].slice(-4);
    setTimeout(() => this.dismiss(id), href === undefined ? SHOWN_MS[kind] : SHOWN_MS.error);
  }
}

export const notices = new Notices();
