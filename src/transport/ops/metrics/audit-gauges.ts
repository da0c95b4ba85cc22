/** How the audit logs are. */
import { Counter, Gauge, type Registry } from "prom-client";

/** How far they are behind, how much of them was read again here, and how much is wrong. */
export interface AuditGauge {
  readonly lag: { readonly entries: number; readonly seconds: number };
  readonly verified: number;
  readonly faults: number;
}

/** Returns what shows what is known of them; nothing, where that is not known now. */
export function auditGauges(registry: Registry): (audit: AuditGauge | undefined) => void {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name, help, aggregator: "max", registers });
  const pending = gauge("signalbox_audit_pending_entries", "Entries of the audit that are in no log yet.");
  const lag = gauge("signalbox_audit_lag_seconds", "Age of the oldest entry of the audit that is in no log yet.");
  const faults = gauge("signalbox_audit_faults", "What is known here to be wrong with audit logs.");
  const verified = new Counter({
    name: "signalbox_audit_verified_entries_total",
    help: "Entries of the audit logs that this process has read again and checked.",
    registers,
  });

  return (audit) => {
    for (const each of [pending, lag, faults]) each.remove();
    if (!audit) return;
    pending.set(audit.lag.entries);
    lag.set(audit.lag.seconds);
    faults.set(audit.faults);
    verified.reset();
    verified.inc(audit.verified);
  };
}
