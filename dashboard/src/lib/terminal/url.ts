/** The address of an agent's terminal. */
export function terminalUrl(agentId: string): string {
  const url = new URL(`/v1/agents/${agentId}/terminal`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}
