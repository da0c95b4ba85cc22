/** Keeps the tokens that agents are called with: fetched when they are needed, and anew before they expire. */
import { backoffMs, type Runtime } from "../services/runtime.ts";
import type { FetchedToken, TokenClient } from "./token-fetcher.ts";

/** From which part of its life another token is fetched while this one is used. Servers do not keep step. */
const RENEW_FROM = 0.7;
const RENEW_TO = 0.8;
/** A token that has so little left may expire on its way, in milliseconds; at most a tenth of its life. */
const MARGIN_MS = 5_000;
/** Bounds of the pause after a fetch that failed, in milliseconds. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;
/** A client's tokens are dropped because an agent refused one no more often than that: another would fare no better. */
const DROP_EVERY_MS = 30_000;

export interface Tokens {
  /** A promise only where a token must be fetched first. Rejects as the fetch does, at once while it is too soon to try again. */
  of(client: TokenClient, signal: AbortSignal): string | Promise<string>;
  /** The agent did not take a token. False: what comes next would be no other. */
  drop(client: TokenClient, token: string): boolean;
}

export interface TokensDeps {
  fetch(client: TokenClient): Promise<FetchedToken>;
  runtime: Pick<Runtime, "elapsedMs" | "random">;
}

interface State {
  token: string | undefined;
  renewAt: number;
  expiresAt: number;
  fetching: Promise<string> | undefined;
  failures: number;
  failure: unknown;
  retryAt: number;
  droppedAt: number;
}

export function createTokens({ fetch, runtime }: TokensDeps): Tokens {
  /** What is known of a client lives as long as its credential. */
  const states = new WeakMap<TokenClient, State>();

  function stateOf(client: TokenClient): State {
    let state = states.get(client);
    if (!state) {
      state = {
        token: undefined,
        renewAt: 0,
        expiresAt: 0,
        fetching: undefined,
        failures: 0,
        failure: undefined,
        retryAt: Number.NEGATIVE_INFINITY,
        droppedAt: Number.NEGATIVE_INFINITY,
      };
      states.set(client, state);
    }
    return state;
  }

  function fetchOnce(client: TokenClient, state: State): Promise<string> {
    if (state.fetching) return state.fetching;
    const askedAt = runtime.elapsedMs();
    if (askedAt < state.retryAt) return Promise.reject(state.failure);
    const fetching = fetch(client).then(
      ({ token, lifeMs }) => {
        const part = RENEW_FROM + (RENEW_TO - RENEW_FROM) * runtime.random();
        Object.assign(state, {
          token,
          renewAt: askedAt + lifeMs * part,
          expiresAt: askedAt + lifeMs - Math.min(MARGIN_MS, lifeMs / 10),
          fetching: undefined,
          failures: 0,
          failure: undefined,
        });
        return token;
      },
      (failure: unknown) => {
        const pause = backoffMs(state.failures, RETRY_MIN_MS, RETRY_MAX_MS, runtime.random);
        const retryAt = runtime.elapsedMs() + pause;
        Object.assign(state, { fetching: undefined, failures: state.failures + 1, failure, retryAt });
        throw failure;
      },
    );
    state.fetching = fetching;
    // Whoever goes on with the old one does not wait for it.
    fetching.catch(() => {});
    return fetching;
  }

  return {
    of(client, signal) {
      const state = stateOf(client);
      const now = runtime.elapsedMs();
      if (state.token !== undefined && now < state.expiresAt) {
        if (now >= state.renewAt) fetchOnce(client, state).catch(() => {});
        return state.token;
      }
      return until(signal, fetchOnce(client, state));
    },

    drop(client, token) {
      const state = stateOf(client);
      // Another call has dropped it before, and there is another, or will be.
      if (state.token !== token) return true;
      const now = runtime.elapsedMs();
      if (now - state.droppedAt < DROP_EVERY_MS) return false;
      state.droppedAt = now;
      state.token = undefined;
      return true;
    },
  };
}

/** What many wait for goes on when one of them leaves. */
function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  if (signal.aborted) {
    // Nobody is left who would hear how it ends.
    work.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}
