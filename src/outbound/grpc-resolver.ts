/**
 * Name resolution of grpc-js through the guard, so that a channel connects to checked addresses only, each time that it
 * connects. Targets are `signalbox:host:port`; the channel brings its guard along as an option.
 */
import { isIP } from "node:net";
import { type ChannelOptions, experimental, Metadata, status } from "@grpc/grpc-js";
import type { UrlGuard } from "./url-guard.ts";

const SCHEME = "signalbox";
const GUARD_OPTION = "signalbox.url-guard";

/** What begins the details of a call's status when its channel found no address. */
export const RESOLUTION_FAILED = "Name resolution failed";

/** The target and the option by which a channel resolves `host` through `guard`. */
export function guardedTarget(
  guard: UrlGuard,
  host: string,
  port: number,
): { target: string; options: ChannelOptions } {
  const authority = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  return { target: `${SCHEME}:${authority}`, options: { [GUARD_OPTION]: guard } };
}

type Listener = experimental.ResolverListener;

/** Shortest time between two resolutions of a name, in milliseconds. */
const PAUSE_MS = 1000;

class GuardedResolver implements experimental.Resolver {
  readonly #guard: UrlGuard;
  readonly #listener: Listener;
  readonly #host: string;
  readonly #port: number;
  /** The resolution under way; another one in its place says that nobody waits for it any more. */
  #current: Promise<void> | undefined;
  #pause: NodeJS.Timeout | undefined;
  #askedAgain = false;

  constructor(target: experimental.GrpcUri, listener: Listener, options: ChannelOptions) {
    const { host, port } = experimental.splitHostPort(target.path)!;
    this.#guard = options[GUARD_OPTION] as UrlGuard;
    this.#listener = listener;
    this.#host = host;
    this.#port = port!;
  }

  updateResolution(): void {
    // A channel whose connection fails asks at once, and tries again at once with what it is told: without a pause that
    // would go round for ever. An address stays what it is; with it, the channel keeps to its own back-off.
    if (this.#current || this.#pause) {
      this.#askedAgain = isIP(this.#host) === 0;
      return;
    }
    this.#askedAgain = false;
    const current = this.#guard.resolve(this.#host).then(
      (found) => {
        const endpoints = found.map(({ address }) => ({ addresses: [{ host: address, port: this.#port }] }));
        this.#tell(current, experimental.statusOrFromValue(endpoints));
      },
      (error: NodeJS.ErrnoException) => {
        const details = `${RESOLUTION_FAILED} (${error.code}): ${error.message}`;
        const failure = { code: status.UNAVAILABLE, details, metadata: new Metadata() };
        // Nobody else tries again after a failure.
        this.#askedAgain = true;
        this.#tell(current, experimental.statusOrFromError(failure));
      },
    );
    this.#current = current;
  }

  destroy(): void {
    this.#current = undefined;
    clearTimeout(this.#pause);
    this.#pause = undefined;
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path;
  }

  #tell(resolution: Promise<void>, result: Parameters<Listener>[0]): void {
    if (this.#current !== resolution) return;
    this.#current = undefined;
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      if (this.#askedAgain) this.updateResolution();
    }, PAUSE_MS).unref();
    this.#listener(result, {}, null, "");
  }
}

experimental.registerResolver(SCHEME, GuardedResolver);
