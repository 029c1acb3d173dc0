import waiting from "../icon-waiting.svg?no-inline";

const link = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
const plain = link?.href;

/** Shows the tab's icon with a dot, or without one. */
export function setDot(dot: boolean): void {
  if (link !== null && plain !== undefined) link.href = dot ? waiting : plain;
}
