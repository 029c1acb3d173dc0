import { ApiError, type Api } from "./api.ts";
import { notices } from "./notices.svelte.ts";

/** Fetch a file that the API makes and give it to the browser to keep; `have` is told of the bytes that are here. */
export async function saveFile(api: Api, path: string, name: string, have: (bytes: number) => void): Promise<void> {
  try {
    const file = URL.createObjectURL(await api.download(path, have));
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
