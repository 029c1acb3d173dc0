import type { Api } from "./api.ts";
import { bytes } from "./format.ts";

export const MAX_FILES = 20;
export const MAX_BYTES = 10 * 1024 * 1024;
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/** Why these files cannot go with one prompt; null if they can. */
export function refusal(files: readonly Pick<File, "name" | "size">[]): string | null {
  if (files.length > MAX_FILES) return `A prompt takes at most ${MAX_FILES} files.`;
  const empty = files.find((file) => file.size === 0);
  if (empty !== undefined) return `${empty.name} is empty, or a folder.`;
  const size = files.reduce((sum, file) => sum + file.size, 0);
  return size > MAX_BYTES ? `The files have ${bytes(size)} together; a prompt takes ${bytes(MAX_BYTES)}.` : null;
}

/** Stores the files at the server, one after the other; returns their ids. Raises ApiError. */
export async function store(api: Api, files: readonly File[]): Promise<string[]> {
  const ids: string[] = [];
  for (const file of files) {
    const type = IMAGES.includes(file.type) ? file.type : "application/octet-stream";
    ids.push((await api.upload(file.name, file, type)).id);
  }
  return ids;
}
