/**
 * The second press that a dangerous button needs: the first press arms the button, the next press acts. At most one
 * button of a confirmation is armed.
 */
export class Confirmation<Button extends string> {
  /** The button whose next press acts. */
  armed = $state<Button | null>(null);
  readonly #forgetAfterMs: number | null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** With `forgetAfterMs`, a button stays armed for that time; otherwise until it acts or `disarm` is called. */
  constructor(forgetAfterMs: number | null = null) {
    this.#forgetAfterMs = forgetAfterMs;
  }

  /** Whether the press acts: it is the second press of this button. */
  press(button: Button): boolean {
    const acts = this.armed === button;
    this.disarm();
    if (acts) return true;
    this.armed = button;
    if (this.#forgetAfterMs !== null) this.#timer = setTimeout(() => this.disarm(), this.#forgetAfterMs);
    return false;
  }

  disarm(): void {
    clearTimeout(this.#timer);
    this.armed = null;
  }
}
