/** The server's side of `startServer`: it tells where it listens, and ends with the process that started it. */

/** Tells the bench where this server listens. When the bench ends, however that goes, `stop` runs and the process ends. */
export function announce(address: object, stop: () => Promise<void> | void = () => {}): void {
  if (!process.send) throw new Error("This server is started by a benchmark: npm run bench -- unary");
  process.once("disconnect", async () => {
    try {
      await stop();
    } finally {
      process.exit();
    }
  });
  process.send(address);
}

// Ctrl-C reaches every process of the terminal; the bench ends its servers in order.
process.on("SIGINT", () => {});
