import MarkdownIt from "markdown-it";

import { visible } from "./visible.ts";

/** HTML in the text is shown as text, links open in a new window, and images are links: nothing is loaded. */
const parser = new MarkdownIt({ html: false, linkify: false }).disable("image");
parser.renderer.rules["link_open"] = (tokens, at, options, _env, self) => {
  tokens[at]?.attrSet("target", "_blank");
  tokens[at]?.attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, at, options);
};

/** The HTML of a Markdown text that comes from elsewhere. */
export function html(markdown: string): string {
  return parser.render(String(visible(markdown)));
}
