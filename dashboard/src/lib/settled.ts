import { ApiError } from "./api.ts";

const SETTLED_MS = 200;

/**
 * Ask when nothing has changed for a moment. What this returns ends it: an answer that comes later is one to an old
 * question. Made for an effect.
 */
export function askWhenSettled<T>(ask: () => Promise<T>, answered: (answer: T) => void, failed: (why: string) => void): () => void {
  let current = true;
  const timer = setTimeout(() => {
    ask().then(
      (answer) => {
        if (current) answered(answer);
      },
      (error: unknown) => {
        if (!(error instanceof ApiError)) throw error;
        if (current) failed(error.message);
      },
    );
  }, SETTLED_MS);
  return () => {
    current = false;
    clearTimeout(timer);
  };
}
