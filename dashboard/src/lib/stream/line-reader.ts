/** A line longer than this is cut into several. */
const MOST_CHARACTERS = 2000;

/**
 * Reads the lines that a program prints from a terminal's bytes: without control sequences, a line that is printed over
 * itself as it was last. What a program draws on the alternate screen has no lines, and is left out.
 *
 * It is a reader of texts, not an emulator: a program that moves its cursor about leaves what it printed in the order in
 * which it came.
 */
export class LineReader {
  readonly #decoder = new TextDecoder();
  #line = "";
  /** Whether the next character begins the line again: after a carriage return that no line feed followed. */
  #returned = false;
  #alternate = false;
  #state: "text" | "escape" | "sequence" | "string" | "string-escape" | "charset" = "text";
  #sequence = "";

  /** The lines that these bytes complete. */
  read(data: Uint8Array): string[] {
    const lines: string[] = [];
    for (const character of this.#decoder.decode(data, { stream: true })) {
      if (this.#state === "text") this.#text(character, lines);
      else this.#control(character);
    }
    return lines;
  }

  #text(character: string, lines: string[]): void {
    if (character === "\x1b") this.#state = "escape";
    else if (character === "\x9b") this.#begin("sequence");
    else if (this.#alternate) return;
    else if (character === "\n") this.#end(lines);
    else if (character === "\r") this.#returned = true;
    else if (character === "\b") this.#line = this.#line.slice(0, -1);
    else if (character === "\t" || character >= " ") {
      if (character >= "\x7f" && character <= "\x9f") return;
      if (this.#returned) this.#line = "";
      this.#returned = false;
      this.#line += character;
      if (this.#line.length >= MOST_CHARACTERS) this.#end(lines);
    }
  }

  #control(character: string): void {
    switch (this.#state) {
      case "escape":
        if (character === "[") this.#begin("sequence");
        else if ("]PX^_".includes(character)) this.#begin("string");
        else if (character >= " " && character <= "/") this.#begin("charset");
        else if (character !== "\x1b") this.#state = "text";
        return;
      case "sequence":
        if (character >= "@" && character <= "~") this.#finish(character);
        else if (character === "\x1b") this.#state = "escape";
        else if (this.#sequence.length < 64) this.#sequence += character;
        return;
      case "string":
        if (character === "\x07" || character === "\x9c" || character === "\x18") this.#state = "text";
        else if (character === "\x1b") this.#state = "string-escape";
        return;
      case "string-escape":
        this.#state = "text";
        if (character === "\\") return;
        this.#state = "escape"; // the escape has ended the string, and begins another sequence
        this.#control(character);
        return;
      case "charset":
        if (character > "/") this.#state = "text";
        return;
      case "text":
        return;
    }
  }

  #begin(state: "sequence" | "string" | "charset"): void {
    this.#state = state;
    this.#sequence = "";
  }

  #finish(final: string): void {
    this.#state = "text";
    const modes = /^\?(.*)$/.exec(this.#sequence)?.[1]?.split(";") ?? [];
    if (!modes.some((mode) => mode === "1049" || mode === "1047" || mode === "47")) {
      if (final === "K" && this.#returned) this.#line = "";
      return;
    }
    if (final === "h") this.#alternate = true;
    else if (final === "l") this.#alternate = false;
  }

  #end(lines: string[]): void {
    const line = this.#line.trimEnd();
    if (line !== "") lines.push(line);
    this.#line = "";
    this.#returned = false;
  }
}
