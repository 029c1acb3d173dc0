// Ticks for the Realtime connection: a worker's timers keep their pace when the tab is hidden.
addEventListener("message", (event) => {
  if (event.data.event === "start") setInterval(() => postMessage({ event: "keepAlive" }), event.data.interval);
});
