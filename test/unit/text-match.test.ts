/** Which texts a query finds, and in what order. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createTextIndex, type Searchable } from "../../src/domain/routing/text-match.ts";

const text = (name: string, more: Partial<Searchable> = {}): Searchable => ({
  name,
  description: "",
  tags: [],
  examples: [],
  ...more,
});

function indexOf(texts: Readonly<Record<string, Searchable>>) {
  const index = createTextIndex();
  for (const [id, searchable] of Object.entries(texts)) index.put(id, searchable);
  return index;
}

const SKILLS = indexOf({
  flights: text("Book flights", { description: "Finds a seat in an airplane.", tags: ["travel"] }),
  hotels: text("Book hotels", { description: "Finds a bed for the night.", examples: ["Where can I sleep in Oslo?"] }),
  poems: text("Write poems", { description: "Also about a journey by airplane." }),
  cafe: text("Café crème"),
});
const found = (query: string) => SKILLS.matches(query, 10).map(({ id }) => id);

describe("a query", () => {
  test.each([
    ["a seat in an airplane", ["flights", "poems"]],
    ["SLEEP", ["hotels"]],
    ["cafe creme", ["cafe"]],
    ["trav", ["flights"]],
    ["flihgts", ["flights"]],
    ["airplan", ["flights", "poems"]],
    ["poemes", ["poems"]],
    ["travel", ["flights"]],
    ["something entirely different", []],
    ["the and of, please", []],
    ["", []],
    ["?!", []],
    [`${"and ".repeat(256)}flights`, []],
  ])("%s", (query, ids) => {
    expect(found(query)).toEqual(ids);
  });

  test("a name counts more than a description, and both words more than one", () => {
    const index = indexOf({
      a: text("Nothing", { description: "translate" }),
      b: text("Translate"),
      c: text("Translate letters"),
    });
    expect(index.matches("translate letters", 3).map(({ id }) => id)).toEqual(["c", "b", "a"]);
    expect(index.matches("translate letters", 1)).toHaveLength(1);
    for (const { score } of index.matches("translate", 3)) expect(score).toBeGreaterThan(0);
  });

  test("equal matches come by id", () => {
    const index = indexOf({ b: text("alike"), c: text("alike"), a: text("alike") });
    expect(index.matches("alike", 3).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  });

  test("a word that nearly all texts hold costs no more than it tells", () => {
    const texts = Array.from({ length: 2000 }, (_, i): [string, Searchable] => [`t${i}`, text(`common word${i}`)]);
    const index = indexOf(Object.fromEntries(texts));
    expect(index.matches("common word7", 3000)[0]).toMatchObject({ id: "t7" });
    expect(index.matches("common", 3000)).toHaveLength(2000);
  });
});

test("what was put and removed in any order is found as if the rest had been put alone", () => {
  const word = fc.constantFrom("book", "flight", "flights", "hotel", "poem", "oslo", "the", "fligth");
  const words = fc.array(word, { maxLength: 4 }).map((list) => list.join(" "));
  const id = fc.constantFrom("a", "b", "c", "d");
  const put = fc.record({ id, name: words, description: words, tags: fc.array(word, { maxLength: 2 }) });
  const step = fc.oneof(put, fc.record({ id, remove: fc.constant(true) }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), words, (steps, query) => {
      const index = createTextIndex();
      const left = new Map<string, Searchable>();
      for (const { id, ...rest } of steps) {
        if ("remove" in rest) {
          index.remove(id);
          left.delete(id);
        } else {
          index.put(id, { ...rest, examples: [] });
          left.set(id, { ...rest, examples: [] });
        }
      }
      const fresh = indexOf(Object.fromEntries(left));
      const idsOf = (matches: { id: string }[]) => matches.map(({ id }) => id).sort();
      expect(idsOf(index.matches(query, 10))).toEqual(idsOf(fresh.matches(query, 10)));
    }),
  );
});
