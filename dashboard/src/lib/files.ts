import { ApiError, type Api } from "./api.ts";
import { notices } from "./notices.svelte.ts";

/** Downloads an export of the API and saves it as `name`; calls `progress` with the number of bytes so far. */
export async function saveFile(api: Api, path: string, name: string, progress: (bytes: number) => void): Promise<void> {
  try {
    const file = URL.createObjectURL(await api.download(path, progress));
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
