/** The person's preferences for this browser, stored between visits where the browser allows it. */

import type { Grouping } from "./fleet-list/rows.ts";

export type Theme = "system" | "dark" | "light";

export const FONT_SIZES = { least: 9, usual: 13, most: 24 };

const KEY = "onsembl-preferences";

interface Kept {
  theme: Theme;
  fontSize: number;
  screenReader: boolean;
  times: boolean;
  grouping: Grouping;
  folded: boolean;
  foldedGroups: readonly string[];
  streamTimes: boolean;
  firstSteps: boolean;
}

function kept(): Kept {
  const usual: Kept = {
    theme: "system",
    fontSize: FONT_SIZES.usual,
    screenReader: false,
    times: false,
    grouping: "none",
    folded: false,
    foldedGroups: ["offline"],
    streamTimes: true,
    firstSteps: true,
  };
  try {
    return { ...usual, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Kept>) };
  } catch {
    return usual; // the browser denies storage, or another version wrote it
  }
}

class Preferences {
  #chosen = $state(kept());
  #systemDark = $state(true);

  constructor() {
    const query = matchMedia("(prefers-color-scheme: dark)");
    this.#systemDark = query.matches;
    query.addEventListener("change", () => (this.#systemDark = query.matches));
    this.#show();
  }

  get theme(): Theme {
    return this.#chosen.theme;
  }
  set theme(theme: Theme) {
    this.#chosen.theme = theme;
    this.#show();
    this.#keep();
  }

  /** Whether the page is dark now. */
  get dark(): boolean {
    return this.#chosen.theme === "system" ? this.#systemDark : this.#chosen.theme === "dark";
  }

  /** The terminal's font size, in pixels. */
  get fontSize(): number {
    return this.#chosen.fontSize;
  }
  set fontSize(pixels: number) {
    this.#chosen.fontSize = Math.min(Math.max(Math.round(pixels), FONT_SIZES.least), FONT_SIZES.most);
    this.#keep();
  }

  /** Whether the terminal keeps a copy of its text for screen readers, which makes drawing slower. */
  get screenReader(): boolean {
    return this.#chosen.screenReader;
  }
  set screenReader(on: boolean) {
    this.#chosen.screenReader = on;
    this.#keep();
  }

  /** Whether the terminal shows the time of each line. */
  get times(): boolean {
    return this.#chosen.times;
  }
  set times(on: boolean) {
    this.#chosen.times = on;
    this.#keep();
  }

  /** Whether the column of commands is folded away. */
  get folded(): boolean {
    return this.#chosen.folded;
  }
  set folded(on: boolean) {
    this.#chosen.folded = on;
    this.#keep();
  }

  /** By what the list of agents is grouped. */
  get grouping(): Grouping {
    return this.#chosen.grouping;
  }
  set grouping(grouping: Grouping) {
    this.#chosen.grouping = grouping;
    this.#keep();
  }

  /** The keys of folded groups of agents. */
  get foldedGroups(): readonly string[] {
    return this.#chosen.foldedGroups;
  }
  set foldedGroups(keys: readonly string[]) {
    this.#chosen.foldedGroups = keys;
    this.#keep();
  }

  /** Whether the merged stream shows the time of each line. */
  get streamTimes(): boolean {
    return this.#chosen.streamTimes;
  }
  set streamTimes(on: boolean) {
    this.#chosen.streamTimes = on;
    this.#keep();
  }

  /** Whether the first steps are shown, until they are done or dismissed. */
  get firstSteps(): boolean {
    return this.#chosen.firstSteps;
  }
  set firstSteps(on: boolean) {
    this.#chosen.firstSteps = on;
    this.#keep();
  }

  #show(): void {
    if (this.#chosen.theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.#chosen.theme;
  }

  #keep(): void {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#chosen));
    } catch {
      // The browser denies storage: the choice holds for this visit.
    }
  }
}

export const preferences = new Preferences();
