/** The `reputation` section of a policy document. */
import { expect, test } from "vitest";
import { DEFAULT_TRUST_RULE, trustRuleIn } from "../../../src/domain/reputation/trust-rule.ts";

test("what it leaves out has its default", () => {
  for (const nothing of [undefined, null, {}])
    expect(trustRuleIn(nothing, "reputation")).toEqual({ rule: DEFAULT_TRUST_RULE });
  const given = { initial: 0.4, read: 0, write: 1, gain: 0, loss: 1, half_life: "90m", recovery: "1.5d" };
  expect(trustRuleIn(given, "reputation")).toEqual({
    rule: { initial: 0.4, read: 0, write: 1, gain: 0, loss: 1, halfLifeMs: 5_400_000, recoveryMs: 129_600_000 },
  });
});

test("everything that is wrong is told at once, with its place", () => {
  const wrong = {
    initial: "0.5",
    read: -0.1,
    write: Number.NaN,
    gain: 1.01,
    half_life: 24,
    recovery: "0s",
    halflife: 1,
  };
  const found = trustRuleIn(wrong, "reputation");
  expect("problems" in found && found.problems.map(({ path, description }) => `${path} ${description}`)).toEqual([
    "reputation.initial is a number from 0 to 1",
    "reputation.read is a number from 0 to 1",
    "reputation.write is a number from 0 to 1",
    "reputation.gain is a number from 0 to 1",
    'reputation.half_life is a duration from 1s to 366d, as "24h"; the units are ms, s, m, h and d',
    'reputation.recovery is a duration from 1s to 366d, as "24h"; the units are ms, s, m, h and d',
    "reputation.halflife is no field of it. Did you mean half_life?",
  ]);
  for (const no of [[], "0.5", 1, true]) expect(trustRuleIn(no, "r")).toMatchObject({ problems: [{ path: "r" }] });
  expect(trustRuleIn({ read: 0.9 }, "r")).toMatchObject({ problems: [{ path: "r.write" }] });
  expect(trustRuleIn(JSON.parse('{"__proto__": 1}'), "r")).toMatchObject({ problems: [{ path: "r.__proto__" }] });
});
