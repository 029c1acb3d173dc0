import headless from "@xterm/headless";
import { expect, test } from "vitest";

import { silence } from "./silence.ts";

const QUERIES = [
  "\x1b[5n",
  "\x1b[6n",
  "\x1b[?6n",
  "\x1b[c",
  "\x1b[0c",
  "\x1b[>c",
  "\x1b[4$p",
  "\x1b[?2004$p",
  "\x1bP$qm\x1b\\",
];

/** What an emulator answers to this output. */
async function answers(output: string, silent: boolean): Promise<string> {
  const terminal = new headless.Terminal({ allowProposedApi: true });
  if (silent) silence(terminal);
  let typed = "";
  terminal.onData((data) => (typed += data));
  await new Promise<void>((done) => terminal.write(output, done));
  terminal.dispose();
  return typed;
}

test.each(QUERIES)("the page does not answer %j, as an emulator would", async (query) => {
  expect(await answers(query, false)).not.toBe("");
  expect(await answers(query, true)).toBe("");
});

test("colours can be set, but not asked for", async () => {
  const terminal = new headless.Terminal({ allowProposedApi: true });
  const seen: string[] = [];
  for (const id of [4, 10, 11, 12]) terminal.parser.registerOscHandler(id, (data) => Boolean(seen.push(`${id};${data}`)));
  silence(terminal); // asked before the handlers above
  await new Promise<void>((done) => terminal.write("\x1b]10;?\x07\x1b]11;#123456\x07\x1b]4;1;?\x07\x1b]4;1;red\x07", done));
  expect(seen).toEqual(["11;#123456", "4;1;red"]);
});
