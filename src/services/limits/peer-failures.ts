/**
 * Calls that are not authenticated, by the address that they come from: whoever floods the server with them costs it no more than a look at
 * a table. Each replica counts for itself.
 */
import { isIPv6 } from "node:net";
import { SignalboxError } from "../../domain/errors.ts";
import { rateLimited } from "../../domain/identity/quotas.ts";
import type { Authenticator, Leave } from "../identity/authenticator.ts";
import type { Runtime } from "../runtime.ts";

const SECOND_MS = 1_000;
/** Addresses that are remembered at most. */
const MOST_ADDRESSES = 10_000;

interface Failures {
  count: number;
  untilMs: number;
}

export interface PeerFailuresDeps {
  runtime: Pick<Runtime, "elapsedMs">;
  /** Failures of one address within a second, after which nothing of it is verified for the rest of that second. */
  most: number;
  /** Told of each call that is refused without being looked at. */
  onLimited: () => void;
}

/** The same authenticator, which does not look at what comes from an address of which too much was not good. */
export function limitFailures(
  authenticator: Authenticator,
  { runtime, most, onLimited }: PeerFailuresDeps,
): Authenticator {
  const failures = new Map<string, Failures>();

  function check(address: string): void {
    const known = failures.get(address);
    if (!known || known.count < most) return;
    const leftMs = known.untilMs - runtime.elapsedMs();
    if (leftMs <= 0) {
      failures.delete(address);
      return;
    }
    onLimited();
    throw rateLimited("failed_authentications_per_second", most, leftMs);
  }

  function failed(address: string, error: unknown, mayBeNobody: boolean): void {
    if (!(error instanceof SignalboxError) || error.code !== "UNAUTHENTICATED") return;
    // What everybody may read costs no more without a credential, and is no guess at one.
    if (mayBeNobody && error.reason === "UNAUTHENTICATED") return;
    const now = runtime.elapsedMs();
    const known = failures.get(address);
    if (known && known.untilMs > now) {
      known.count += 1;
      return;
    }
    // Those that came first are forgotten first: a flood from many addresses costs no more memory than one from one.
    failures.delete(address);
    if (failures.size >= MOST_ADDRESSES) failures.delete(failures.keys().next().value!);
    failures.set(address, { count: 1, untilMs: now + SECOND_MS });
  }

  return {
    authenticate(credentials, { beNobody } = FAILS) {
      const { address } = credentials.peer;
      if (address === undefined) return authenticator.authenticate(credentials);
      if (failures.size > 0) check(networkOf(address));
      try {
        const principal = authenticator.authenticate(credentials);
        if (!(principal instanceof Promise)) return principal;
        return principal.catch((error: unknown) => {
          failed(networkOf(address), error, beNobody);
          throw error;
        });
      } catch (error) {
        failed(networkOf(address), error, beNobody);
        throw error;
      }
    },
  };
}

const FAILS: Leave = { beNobody: false };

/** Of IPv6 the network of 64 bits: a host has all of its addresses. */
function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  const [plain = ""] = address.split("%");
  if (!isIPv6(plain)) return address;
  const [head = "", tail] = plain.toLowerCase().split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array<string>(zeros).fill("0"), ...last].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::`;
}
