import { parse, type AST } from "svelte/compiler";
import type { PreprocessorGroup } from "svelte/compiler";

/** Attributes that are shown or read out. The value of a field is not among them: the person edits the text itself. */
const SHOWN = new Set(["title", "aria-label", "aria-description", "placeholder", "alt", "label"]);
const IMPORT = 'import { visible as __visible } from "/src/lib/visible.ts";';

/**
 * Wraps each expression whose value a component shows in `visible` (`src/lib/visible.ts`): texts between tags, and
 * attributes that are shown. So no component can forget it. Attributes of components pass values on unchanged.
 */
export function foreignText(): PreprocessorGroup {
  return {
    name: "foreign-text",
    markup({ content }) {
      const root = parse(content, { modern: true });
      const shown: Shown[] = [];
      collect(root.fragment, shown);
      if (shown.length === 0) return { code: content };
      let code = content;
      for (const { start, end, shorthand } of shown.toSorted((a, b) => b.start - a.start)) {
        const value = code.slice(start, end);
        const wrapped = shorthand ? `${value}={__visible(${value})}` : `__visible(${value})`;
        code = code.slice(0, shorthand ? start - 1 : start) + wrapped + code.slice(shorthand ? end + 1 : end);
      }
      const script = /<script\b(?![^>]*\bmodule\b)[^>]*>/.exec(code);
      if (script === null) return { code: `<script>${IMPORT}</script>\n${code}` };
      const at = script.index + script[0].length;
      return { code: code.slice(0, at) + IMPORT + code.slice(at) };
    },
  };
}

/** Where an expression stands. `shorthand`: it is all of an attribute, as in `{placeholder}`. */
interface Shown {
  start: number;
  end: number;
  shorthand: boolean;
}

function collect(node: unknown, shown: Shown[], shorthand = false): void {
  if (Array.isArray(node)) {
    for (const part of node) collect(part, shown, shorthand);
    return;
  }
  if (typeof node !== "object" || node === null || !("type" in node)) return;
  if (node.type === "ExpressionTag") {
    const { expression } = node as AST.ExpressionTag;
    shown.push({ ...range(expression), shorthand });
    return;
  }
  if (node.type === "RegularElement" || node.type === "SvelteElement") {
    const element = node as AST.RegularElement;
    for (const attribute of element.attributes) {
      if (attribute.type === "Attribute" && SHOWN.has(attribute.name) && attribute.value !== true) {
        const parts = Array.isArray(attribute.value) ? attribute.value : [attribute.value];
        collect(parts, shown, attribute.end - attribute.start === attribute.name.length + 2);
      }
    }
    if (element.name !== "textarea") collect(element.fragment, shown);
    return;
  }
  for (const key of ["fragment", "nodes", "body", "consequent", "alternate", "fallback", "pending", "then", "catch"]) {
    collect((node as unknown as Record<string, unknown>)[key], shown);
  }
}

function range(expression: unknown): { start: number; end: number } {
  const { start, end } = expression as { start: number; end: number };
  return { start, end };
}
