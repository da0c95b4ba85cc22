import { expect, test } from "vitest";
import { uuidV7 } from "../../src/domain/identifiers.ts";

test("a UUID of version 7 is its time and 74 bits of chance", () => {
  const random = Uint8Array.from({ length: 20 }, (_, i) => 0xf0 + (i % 16));
  expect(uuidV7(0x0190_1234_5678, new Uint8Array(16))).toBe("01901234-5678-7000-8000-000000000000");
  expect(uuidV7(0xfedc_ba98_7654, random)).toBe("fedcba98-7654-76f7-b8f9-fafbfcfdfeff");
  expect(uuidV7(1, random, 4)).toBe("00000000-0001-7afb-bcfd-fefff0f1f2f3");
});
