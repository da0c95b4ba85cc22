/** What keeps the process busy lets others have a turn. */
import { expect, test } from "vitest";
import { createBreather, createStepper } from "../../../src/services/routing/breather.ts";

function lab() {
  let nowMs = 0;
  const said: string[] = [];
  const breathe = createBreather({ elapsedMs: () => nowMs });
  const piece = (name: string, ms: number) =>
    breathe(() => {
      nowMs += ms;
      said.push(name);
      setImmediate(() => said.push("others"));
    });
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { said, piece, breathe, pass };
}

test("between two long pieces of work others have a turn, however many there are at once", async () => {
  const { said, piece } = lab();
  await Promise.all(["a", "b", "c"].map((name) => piece(name, 50)));
  expect(said.slice(0, 5)).toEqual(["a", "others", "b", "others", "c"]);
});

test("short pieces follow each other at once, also after long ones", async () => {
  const { said, piece } = lab();
  await Promise.all([piece("long", 50), ...["a", "b", "c"].map((name) => piece(name, 1))]);
  expect(said.slice(0, 5)).toEqual(["long", "others", "a", "b", "c"]);
});

test("work that throws was work as well", async () => {
  const { said, piece, breathe, pass } = lab();
  const fails = breathe(() => {
    setImmediate(() => said.push("others"));
    pass(50);
    throw new Error("it failed");
  });
  await Promise.all([expect(fails).rejects.toThrow("it failed"), piece("next", 1)]);
  expect(said).toEqual(["others", "next"]);
});

test("work in steps lets others have their turn between its pieces", async () => {
  let nowMs = 0;
  function* steps(): Generator<void, string> {
    for (let i = 0; i < 10; i++) {
      nowMs += 2;
      yield;
    }
    return "done";
  }
  const inSteps = createStepper({ elapsedMs: () => nowMs });
  let turns = 0;
  let isDone = false;
  const others = (async () => {
    for (; !isDone; turns++) await new Promise((resolve) => setImmediate(resolve));
  })();
  expect(await inSteps(steps())).toBe("done");
  isDone = true;
  await others;
  // Three steps are longer than a piece may be.
  expect(turns).toBeGreaterThanOrEqual(3);
});

test("what fails in steps fails as it is", async () => {
  // biome-ignore lint/correctness/useYield: it comes to none
  function* fails(): Generator<void, never> {
    throw new Error("broken");
  }
  await expect(createStepper({ elapsedMs: () => 0 })(fails())).rejects.toThrow("broken");
});
