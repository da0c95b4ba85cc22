/** Reports of an agent that are being stored while it is heard on: how heavy they are, and who waits until there is none. */
import { MAX_HELD_BYTES } from "./report-weight.ts";

export interface HeldReportsListener {
  /** Told that something could not be stored that nobody waited for. */
  onFailure(error: unknown): void;
}

export class HeldReports {
  readonly #listener: HeldReportsListener;
  #count = 0;
  #bytes = 0;
  #settling: PromiseWithResolvers<void> | undefined;
  #failure: { error: unknown } | undefined;

  constructor(listener: HeldReportsListener) {
    this.#listener = listener;
  }

  /** Whether the storing of one has failed, and nobody was thrown how. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Holds a report until it is `written`. More than is held at most is waited for. */
  async hold(bytes: number, written: Promise<void>): Promise<void> {
    this.#count += 1;
    this.#bytes += bytes;
    written.then(
      () => this.#letGo(bytes),
      (error: unknown) => {
        this.#failure ??= { error };
        this.#letGo(bytes);
        this.#listener.onFailure(error);
      },
    );
    if (this.#bytes > MAX_HELD_BYTES) await this.settled();
  }

  /** Resolves when none is held. Throws how the storing of one failed, once. */
  async settled(): Promise<void> {
    if (this.#count > 0) {
      this.#settling ??= Promise.withResolvers();
      await this.#settling.promise;
    }
    if (!this.#failure) return;
    const { error } = this.#failure;
    this.#failure = undefined;
    throw error;
  }

  #letGo(bytes: number): void {
    this.#count -= 1;
    this.#bytes -= bytes;
    if (this.#count > 0) return;
    this.#settling?.resolve();
    this.#settling = undefined;
  }
}
