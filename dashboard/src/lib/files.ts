import { ApiError } from "./api.ts";
import { notices } from "./notices.svelte.ts";

/** Downloads a file and lets the browser save it as `name`; an ApiError becomes a notice. */
export async function saveFile(name: string, download: () => Promise<Blob>): Promise<void> {
  try {
    const file = URL.createObjectURL(await download());
    const link = document.createElement("a");
    link.href = file;
    link.download = name.replaceAll(/[^A-Za-z0-9._-]/g, "_");
    link.click();
    URL.revokeObjectURL(file);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notices.error(error.message);
  }
}
