import { ApiError } from "./api.ts";

const SETTLED_MS = 200;

/**
 * Sends a request a moment after the last change. For use in an effect: the returned function cancels the request, and
 * its answer is then ignored.
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
