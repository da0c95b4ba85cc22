/** How traffic is steered: what signalbox.v1.Rollout says, checked and with its defaults filled in. Pure data. */

export type RouteMode = "AUTO" | "LOCAL" | "REMOTE";
export type CompatibilityMode = "NONE" | "A2A_0_3";
export type FallbackCondition = "NO_CANDIDATE" | "UNAVAILABLE" | "FULL" | "FAILED";

/** An agent, or whoever offers a capability. */
export type FallbackTarget = { readonly agentId: string } | { readonly capabilityId: string };

export type FallbackStep = FallbackTarget & {
  /** Any of them leads here. Never empty. */
  readonly conditions: readonly FallbackCondition[];
};

/** A share of the contexts, and who gets it. */
export interface Canary {
  /** From 0 to 100. */
  readonly percent: number;
  readonly target: { readonly agentId: string } | { readonly version: string };
}

/** When somebody should look. */
export interface AlertThresholds {
  readonly errorRate: number;
  readonly p95Ms: number;
  readonly retryRate: number;
  readonly circuitOpenRate: number;
}

export interface Rollout {
  /** Undefined when it is off. */
  readonly canary: Canary | undefined;
  readonly rollbackToLocal: boolean;
  readonly compatibilityMode: CompatibilityMode;
  readonly dualEventWrite: boolean;
  readonly routeModeDefault: RouteMode;
  readonly fallbackChain: readonly FallbackStep[];
  readonly alertThresholds: AlertThresholds;
  /** Undefined when it is off. */
  readonly mirror: { readonly agentId: string; readonly percent: number } | undefined;
  /** Undefined when it is off. */
  readonly hedging: { readonly quantile: number; readonly minDelayMs: number } | undefined;
}

/** What holds where nobody has said anything. */
export const DEFAULT_ROLLOUT: Rollout = {
  canary: undefined,
  rollbackToLocal: false,
  compatibilityMode: "NONE",
  dualEventWrite: false,
  routeModeDefault: "AUTO",
  fallbackChain: [],
  alertThresholds: { errorRate: 0.05, p95Ms: 3000, retryRate: 0.2, circuitOpenRate: 0.05 },
  mirror: undefined,
  hedging: undefined,
};
