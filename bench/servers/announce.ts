/** A server's side of `startServer`: it tells where it listens, and ends with the process that started it. */

/** Tells the bench where this server is. When the bench has no more need of it, or is gone, `stop` runs and the process ends. */
export function announce(address: object, stop: () => Promise<void> = async () => {}): void {
  if (!process.send) throw new Error("this server is started by a benchmark: npm run bench");
  const end = () => void stop().finally(() => process.exit());
  process.once("disconnect", end);
  // The bench may have gone while this server started.
  if (process.connected) process.send(address);
  else end();
}

// Ctrl-C reaches every process of a terminal; the bench ends its servers in order.
process.on("SIGINT", () => {});
