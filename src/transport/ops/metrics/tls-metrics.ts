/** The certificate of the listeners: when it ends, and how it is kept fresh. */
import { Counter, Gauge, type Registry } from "prom-client";

/** Adds the metrics; returns what counts a change of the files. `end` is in seconds since 1970, undefined without TLS. */
export function tlsMetrics(registry: Registry, end: () => number | undefined): (result: "loaded" | "refused") => void {
  const registers = [registry];
  new Gauge({
    name: "signalbox_tls_certificate_expiry_timestamp_seconds",
    help: "When the certificate of the listeners ends, in seconds since 1970. Without TLS there is none.",
    aggregator: "min",
    registers,
    collect() {
      this.remove();
      const at = end();
      if (at !== undefined) this.set(at);
    },
  });
  const reloads = new Counter({
    name: "signalbox_tls_reloads_total",
    help: "Changes of the certificate files that were loaded, or refused because they cannot be used.",
    labelNames: ["result"],
    registers,
  });
  for (const result of ["loaded", "refused"]) reloads.inc({ result }, 0);
  return (result) => reloads.inc({ result });
}
