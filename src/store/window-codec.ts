/**
 * The windows of a reputation as bytes: whole numbers, each in as many bytes as it needs (LEB128, as in protobuf). First the version of
 * this form; then of each window how many slots it has; of each slot, the step from the number before, four counts, how many buckets
 * of latencies there are, and of each the step from the bucket before and its count.
 */
import { newSlot, newWindows, type Windows } from "../domain/reputation/windows.ts";

const VERSION = 1;

export function encodeWindows(windows: Windows): Buffer {
  const numbers: number[] = [VERSION];
  for (const window of windows) {
    numbers.push(window.size);
    let last = 0;
    for (const [number, slot] of sorted(window)) {
      const { good, bad, judged, inSla, latencies } = slot;
      numbers.push(number - last, good, bad, judged, inSla, latencies.size);
      last = number;
      let lastBucket = 0;
      for (const [bucket, count] of sorted(latencies)) {
        numbers.push(bucket - lastBucket, count);
        lastBucket = bucket;
      }
    }
  }
  return writeNumbers(numbers);
}

/** Empty windows for a form that only a newer version knows. */
export function decodeWindows(bytes: Uint8Array): Windows {
  const next = numbersIn(bytes);
  const windows = newWindows();
  if (next() !== VERSION) return windows;
  for (const window of windows) {
    let number = 0;
    for (let slots = next(); slots > 0; slots--) {
      number += next();
      const slot = { ...newSlot(), good: next(), bad: next(), judged: next(), inSla: next() };
      let bucket = 0;
      for (let buckets = next(); buckets > 0; buckets--) {
        bucket += next();
        slot.latencies.set(bucket, next());
      }
      window.set(number, slot);
    }
  }
  return windows;
}

const sorted = <T>(map: ReadonlyMap<number, T>): [number, T][] => [...map].sort(([a], [b]) => a - b);

/** Beyond 32 bits the operators for bits do not reach. */
function writeNumbers(numbers: readonly number[]): Buffer {
  const bytes: number[] = [];
  for (let number of numbers) {
    for (; number >= 128; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
    bytes.push(number);
  }
  return Buffer.from(bytes);
}

/** Each call gives the next; after the last, 0. */
function numbersIn(bytes: Uint8Array): () => number {
  let at = 0;
  return () => {
    let number = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++]!;
      number += (byte % 128) * scale;
      if (byte < 128) break;
    }
    return number;
  };
}
