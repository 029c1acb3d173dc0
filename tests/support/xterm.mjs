// Writes output into xterm.js without a page; run in the dashboard's folder. A request and its answer are a line of JSON each.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Terminal } = createRequire(`${process.cwd()}/`)("@xterm/headless");

for await (const request of createInterface({ input: process.stdin })) {
  const { columns, rows, data } = JSON.parse(request);
  const terminal = new Terminal({ cols: columns, rows, scrollback: 10_000, allowProposedApi: true });
  let replies = "";
  terminal.onData((text) => (replies += text));
  await new Promise((done) => terminal.write(Buffer.from(data, "base64"), done));
  const screen = terminal.buffer.active;
  const lines = [];
  let styled = false;
  for (let y = 0; y < screen.length; y++) lines.push(screen.getLine(y).translateToString(true));
  const last = screen.getLine(screen.baseY + Math.max(0, screen.cursorY - 1)).getCell(0);
  styled = !last.isAttributeDefault();
  const { cursorX: x, cursorY: y, type, baseY: above } = screen;
  console.log(JSON.stringify({ x, y, type, above, lines, styled, replies, modes: terminal.modes }));
  terminal.dispose();
}
