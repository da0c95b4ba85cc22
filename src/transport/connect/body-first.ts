/** The body of a request that is signed: whether the signature is good shows when all of it is there. */
import type { HttpCredentials } from "../http-credentials.ts";
import { messageTooLarge } from "../http-errors.ts";

/** Room for what surrounds a message on the wire, in bytes. */
const FRAMING_BYTES = 1_024;

/**
 * Reads a body, tells `credentials` of it, and gives it again. What is wrong with it is wrong with what is given: connect-node tells
 * the caller, in the words of its protocol.
 */
export async function bodyFirst(
  body: AsyncIterable<Uint8Array>,
  credentials: HttpCredentials,
  maxBytes: number,
  toError: (thrown: unknown) => unknown,
): Promise<AsyncIterable<Uint8Array>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of body) {
      size += chunk.length;
      if (size > maxBytes + FRAMING_BYTES) throw messageTooLarge(maxBytes);
      chunks.push(chunk);
    }
  } catch (error) {
    return failing(toError(error));
  }
  credentials.setContent(...chunks);
  return again(chunks);
}

async function* again(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

// biome-ignore lint/correctness/useYield: it fails before there is anything to give.
async function* failing(error: unknown): AsyncGenerator<Uint8Array> {
  throw error;
}
